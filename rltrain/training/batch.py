"""Trainers that differ only in their seeds, as one: agents act and learn, and environments step, together."""

from __future__ import annotations

from collections.abc import Sequence

from rltrain.agent import Agent, Metrics, Received, StackedAgent, next_state
from rltrain.joined_vec import JoinedVecEnv
from rltrain.plugins import resolve
from rltrain.registry import AgentSpec
from rltrain.training.choices import Choices
from rltrain.training.metrics import EpisodeStats
from rltrain.training.trainer import Trainer
from rltrain.tree import tree_cat, tree_map
from rltrain.vec import TensorVecEnv


def stack(spec: AgentSpec, agents: Sequence[Agent]) -> StackedAgent:
    """Makes one agent that acts and learns for several agents which differ only in their seeds.

    The single agents stay complete: each has its new weights at the end of every ``learn``.

    Raises:
        ConfigError: These agents cannot be stacked.
    """
    return resolve(spec.stacked)(agents)


class Batch:
    """Trainers whose agents act and learn, and whose environments are stepped, as one.

    After every iteration each trainer has the state that it would have alone.

    Args:
        trainers: Trainers that differ only in their seeds, all after the same number of iterations.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers = trainers
        self.horizon = trainers[0].agent.horizon
        self.agent = stack(trainers[0].setup.request.agent, [trainer.agent for trainer in trainers])
        envs = [trainer.env for trainer in trainers]
        self.env = JoinedVecEnv([env for env in envs if isinstance(env, TensorVecEnv)])
        self.obs = tree_cat([trainer.obs for trainer in trainers])
        self.state = tree_cat([trainer.state for trainer in trainers])
        self.episodes = EpisodeStats(1, self.horizon, self.env.num_envs, self.env.device)
        self.choices = Choices(trainers[0].env.single_action_space, self.horizon)

    def iterate(self) -> list[Metrics]:
        """Collects and learns; returns the metrics of each trainer."""
        self.agent.progress_remaining = self.trainers[0].progress_remaining
        initial = tree_cat([trainer.agent.actor.initial_state(trainer.env.num_envs) for trainer in self.trainers])
        for _ in range(self.horizon):
            self.choices.note(self.obs)
            out = self.agent.act(self.obs, self.state)
            step = self.env.step(out.action)
            self.agent.record(out, step)
            self.episodes.note(step)
            if self.trainers[0].infos.names:
                for trainer, rows in zip(self.trainers, self.env.rows, strict=True):
                    trainer.infos.note(step.info, rows)
            self.obs, self.state = step.obs, next_state(out, step, initial)
        self.env.split()
        for trainer, rows in zip(self.trainers, self.env.rows, strict=True):
            trainer.obs, trainer.state = (tree_map(lambda x, rows=rows: x[rows], x) for x in (self.obs, self.state))
            trainer.episodes.merge_from(self.episodes, rows)
            trainer.choices.missing = None if self.choices.missing is None else self.choices.missing[:, rows]
            trainer.collected()
            trainer.callbacks.rollout(trainer)
        self.episodes.forget()
        metrics = self.agent.learn_each()
        self.share_received()
        return metrics

    def share_received(self) -> None:
        """Gives each trainer its share of what the environments gave, to look for numbers that are not finite."""
        received = self.agent.received() if isinstance(self.agent, Agent) else None
        for k, trainer in enumerate(self.trainers):
            share = received and Received(
                obs=tree_map(lambda x, k=k: x[:, k], received.obs),
                final_obs=tree_map(lambda x, k=k: x[:, k], received.final_obs),
                terminated=tree_map(lambda x, k=k: x[:, k], received.terminated),
            )
            trainer.received = lambda share=share: share
