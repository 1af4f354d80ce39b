"""An agent whose memory counts the steps of an episode, and an environment that knows whether it counts right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor, nn

import rltrain
from rltrain.agent import Actor, ActOut, Agent, Metrics
from rltrain.config import AgentConfig
from rltrain.env import TensorEnv
from rltrain.rng import derive_seed, generator_state, make_generator, set_generator_state
from rltrain.vec import VecStep

LONGEST = 9


@dataclass
class HiddenState:
    steps: Tensor  # (N,) int64, of the episode so far
    left: Tensor  # (N,) int64, until it ends
    said: Tensor  # (N,) int64, the last action; -1 at the start


class Hidden(TensorEnv[HiddenState]):
    """Say how many steps the episode has had, which nothing shows: a reward of 1. Episodes have 2 to 9 steps.

    A third of them is cut off by the time limit.
    """

    observation_space = spaces.Box(0.0, 1.0, (1,))
    action_space = spaces.Discrete(LONGEST + 1)
    max_episode_steps = 6

    def reset(self, n: int, rng: torch.Generator | None) -> HiddenState:
        left = torch.randint(2, LONGEST + 1, (n,), device=self.device, generator=rng)
        return HiddenState(torch.zeros_like(left), left, torch.full_like(left, -1))

    def step(
        self, state: HiddenState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[HiddenState, Tensor, Tensor]:
        after = HiddenState(state.steps + 1, state.left - 1, action)
        return after, (action == state.steps).to(self.dtype), after.left == 0

    def observe(self, state: HiddenState) -> Tensor:
        return torch.zeros(len(state.steps), 1, dtype=self.dtype, device=self.device)

    def render(self, state: HiddenState, index: int = 0) -> Tensor:
        """Its brightness is the last action."""
        return state.said[index].clamp(min=0).to(torch.uint8).expand(8, 8, 3).clone()


class Memory(NamedTuple):
    count: Tensor  # (N,) int64, steps of the episode
    trace: tuple[Tensor, None]  # (N, 2) float32, sums of what the actor's weight was, and nothing


class CountingActor(Actor):
    """Says its count."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2), requires_grad=False)

    def initial_state(self, n: int) -> Memory:
        zeros = torch.zeros(n, dtype=torch.int64)
        return Memory(zeros, (torch.zeros(n, 2), None))

    def choose(self, obs: Any, state: Memory, *, deterministic: bool, rng: Any) -> ActOut:
        trace = state.trace[0] + self.weight
        return ActOut(state.count.clamp(max=LONGEST), Memory(state.count + 1, (trace, None)))


class StepCounterConfig(AgentConfig):
    """Hyperparameters."""

    n_steps: int = 7
    """Steps of each environment between two updates."""


class StepCounter(Agent):
    """Its weight drifts by chance and by its memory, so that a memory that is lost shows in the weight.

    Attributes:
        mistakes: Steps whose action was not the number of steps so far.
        lost: Ends of episodes at which ``record`` was not given the state that belongs to ``final_obs``.
        recorded: Steps.
    """

    mistakes: Tensor
    lost: Tensor
    recorded: Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: StepCounterConfig,
        **options: Any,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, **options)
        self.horizon = config.n_steps
        self.actor = CountingActor()
        self.rng = make_generator(self.device, derive_seed(self.seed, "agent"))
        for name in ("mistakes", "lost", "recorded"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def act(self, obs: Any, state: Any = None) -> ActOut:
        return self.actor(obs, state)

    def record(self, out: ActOut, step: VecStep) -> None:
        ended = step.terminated | step.truncated
        self.mistakes += (step.reward != 1).sum()
        self.lost += (ended & (out.state.count != step.episode_length)).sum()
        self.recorded += len(ended)
        self.drift = out.state.trace[0].mean(0)

    def learn(self) -> Metrics:
        drawn = torch.randn(2, generator=self.rng)
        self.actor.weight += self.reduce(0.1 * drawn + 0.01 * self.drift)
        self.mistakes.copy_(self.reduce(self.mistakes.float()).ceil())
        return {"train/loss": self.drift.sum()}

    def training_state(self) -> dict[str, Any]:
        return {"rng": generator_state(self.rng)}

    def load_training_state(self, state: dict[str, Any]) -> None:
        set_generator_state(self.rng, state["rng"])


class StackedStepCounter:
    """K of them as one."""

    progress_remaining = 1.0

    def __init__(self, agents: Sequence[Any]) -> None:
        self.agents = agents
        self.rows = [slice(k * agents[0].num_envs, (k + 1) * agents[0].num_envs) for k in range(len(agents))]

    def act(self, obs: Any, state: Any = None) -> ActOut:
        parts = [
            agent.act(obs[rows], Memory(state.count[rows], (state.trace[0][rows], None)))
            for agent, rows in zip(self.agents, self.rows, strict=True)
        ]
        count, trace = (torch.cat(x) for x in zip(*((p.state.count, p.state.trace[0]) for p in parts), strict=True))
        return ActOut(torch.cat([part.action for part in parts]), Memory(count, (trace, None)))

    def record(self, out: ActOut, step: VecStep) -> None:
        for agent, rows in zip(self.agents, self.rows, strict=True):
            state = Memory(out.state.count[rows], (out.state.trace[0][rows], None))
            names = "reward", "terminated", "truncated", "episode_length"
            own = {name: getattr(step, name)[rows] for name in names}
            agent.record(ActOut(out.action[rows], state), step._replace(**own))

    def learn_each(self) -> list[Metrics]:
        return [agent.learn() for agent in self.agents]


def register() -> None:
    """Makes both known."""
    rltrain.register_agent("step-counter", StepCounter, StepCounterConfig, stacked="step_counter:StackedStepCounter")
    rltrain.register_env("test/Hidden-v0", Hidden)


register()
