"""The base class of agents that learn from a replay."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import ActOut, Metrics, Received, State
from rltrain.agents.parts.hindsight import HindsightReplay
from rltrain.agents.parts.offline_share import OfflineShare
from rltrain.agents.parts.replay import Batch, PrioritizedReplay, Replay
from rltrain.agents.parts.rollout import minibatches
from rltrain.agents.parts.settings import OffPolicyConfig, PrioritizedConfig
from rltrain.agents.parts.targets import TargetNetworks
from rltrain.compile import can_lower
from rltrain.data.dataset import Dataset
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.normalize import check_scaled
from rltrain.rng import derive_seed, generator_state, make_generator, set_generator_state
from rltrain.schedules import ramp, value_at
from rltrain.spaces import entries_of
from rltrain.tree import leaves, names
from rltrain.vec import Goals, VecStep

AT_ONCE = 16_384  # transitions that are drawn and prepared in one pass
LOOKED_AT, DRAWN = 256, 4_096  # last transitions whose values are compared, and whose actions are shown, at log points


def mean_of(values: list[Tensor]) -> Tensor:
    """The mean of all numbers in tensors of the same shape, 0-d."""
    if len(values) > 1:
        return torch.stack(values).mean()
    return values[0].mean() if values[0].dim() else values[0]


class Update(NamedTuple):
    """The outcome of a gradient step."""

    metrics: dict[str, Tensor]  # by tag, of any shape; the mean over all minibatches is logged
    error: Tensor | None = None  # (B,) of each transition; sets its priority if the replay has priorities


class OffPolicyAgent(TargetNetworks):
    """An agent that takes ``gradient_steps`` on minibatches from a replay after every ``train_freq`` steps.

    A subclass makes its networks, its ``actor``, its optimizers (attributes that are a
    :class:`~rltrain.agents.parts.optim.FlatAdam`) and, by
    :meth:`make_target`, its target networks. It defines how to explore (:meth:`sample_actions`) and what a gradient
    step is (:meth:`update`).

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action, of any kind.
        num_envs: N, on this rank.
        config: Hyperparameters; a :class:`PrioritizedConfig` if the replay can have priorities. It also has
            ``target_update_interval`` if there are target networks.
        device: Where everything lives.
        seed: Seed of all randomness in the agent.

    Attributes:
        targets_follow: What ``target_update_interval`` counts: environment steps, as for Stable-Baselines3's DQN (ranks
            count them together, so the field is marked ``CountedOverRanks``), or gradient steps, as for its SAC.
        replay: The transitions.
        rng: The agent's generator.
        steps: Environment steps taken, over all environments of this rank.
        n_updates: Gradient steps taken, including the current one during :meth:`update`.
    """

    config: Any
    targets_follow: ClassVar[Literal["environment steps", "gradient steps"]] = "gradient steps"

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: OffPolicyConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        self.horizon = config.train_freq
        self.log_interval = max(1, 1000 // (self.horizon * num_envs))
        self.rng = make_generator(self.device, derive_seed(seed, "agent"))
        self.replay = self._make_replay()
        self.offline: OfflineShare | None = None
        self.steps = 0
        self.first_step = 0  # the environment step at which the replay starts
        self.n_updates = 0

    def _make_replay(self) -> Replay:
        config = self.config
        options: dict[str, Any] = {"gamma": config.gamma, "n_steps": config.n_steps}
        prioritized = isinstance(config, PrioritizedConfig) and config.prioritized_replay
        if config.n_sampled_goal:
            if prioritized or config.n_steps > 1:
                other = "prioritized_replay" if prioritized else f"n_steps={config.n_steps}"
                raise ConfigError(f"n_sampled_goal does not go together with {other}.", "Leave one of them out.")
            options = {"gamma": config.gamma, "n_sampled_goal": config.n_sampled_goal}
            return HindsightReplay(config.buffer_size, self.num_envs, self.device, **options)
        if prioritized:
            options["alpha"] = config.priority_alpha
            return PrioritizedReplay(config.buffer_size, self.num_envs, self.device, **options)
        return Replay(config.buffer_size, self.num_envs, self.device, **options)

    def use_goals(self, goals: Goals) -> None:
        """Tells the replay the rewards of goals; called once, before training, if ``n_sampled_goal`` asks for it."""
        assert isinstance(self.replay, HindsightReplay)
        self.replay.goals = goals

    def use_data(self, dataset: Dataset) -> None:
        """Draws the share ``offline_fraction`` of every minibatch from this dataset; called once, before training.

        Raises:
            DatasetError: It does not fit the spaces.
            ConfigError: It cannot be drawn from beside this replay.
        """
        spaces = self.observation_space, self.action_space
        self.offline = OfflineShare(dataset, spaces, self.config, self.replay, self.from_env, self.rng)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compiles acting, learning and, on a CPU, the replay as well."""
        super().compile(*args, **options)
        if not (args or options) and can_lower(self.device):
            self.replay.compile()

    # Defined by subclasses

    @abstractmethod
    def sample_actions(self, obs: Observation) -> Tensor:
        """Exploratory actions (N, *A). The replay stores them with this type and shape."""

    def to_env(self, action: Tensor) -> Tensor:
        """Converts stored actions to actions of the environment."""
        return action

    def from_env(self, action: Tensor) -> Tensor:
        """Converts actions of the environment, such as those of a dataset, to actions as they are stored."""
        return action

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """The input of :meth:`update`: transitions, and all that can be computed beforehand, such as targets or noise.

        If :attr:`drawn_ahead`, it is called once for many minibatches, so each value has one row per transition. The
        default adds nothing. ``place`` must be kept if the replay has priorities.
        """
        return batch._asdict()

    @property
    def drawn_ahead(self) -> bool:
        """Whether all minibatches of an update may be drawn and prepared before the first gradient step."""
        return not isinstance(self.replay, PrioritizedReplay)

    @abstractmethod
    def update(self, batch: dict[str, Any], learning_rate: float | Tensor) -> Update:
        """Takes a gradient step on a minibatch of rows from :meth:`prepare`.

        The loss of each row must be multiplied by its ``weight``, which is 0 for rows that are not steps. The value of
        ``next_obs`` is multiplied by ``discount``, and is 0 after a termination.

        Args:
            batch: B rows.
            learning_rate: The step size at this point of training.
        """

    # Shared by all subclasses

    @property
    def warming_up(self) -> bool:
        """Whether learning has not started yet, so that actions should be random."""
        return self.steps < self.config.learning_starts

    @torch.no_grad()
    def act(self, obs: Observation, state: State = None) -> ActOut:
        """Exploratory actions (N, *A); stores the observation."""
        self.replay.begin(obs)
        self.action = self.sample_actions(obs)
        return ActOut(self.to_env(self.action))

    def record(self, out: ActOut, step: VecStep) -> None:
        """Stores the outcome of the last ``act``."""
        self.replay.add(self.action, step)
        self.steps += self.num_envs

    def received(self) -> Received | None:
        """The newest places of the replay, at least those of the steps since the last update."""
        return self.replay.newest(2 * self.horizon)

    def learn(self) -> Metrics:
        """Takes ``gradient_steps`` on minibatches from the replay; metrics are means over them."""
        config, counts_steps = self.config, self.targets_follow == "environment steps"
        taken = self.horizon * self.num_envs
        if counts_steps:
            interval = config.target_update_interval
            self._move_targets(self.steps // interval - (self.steps - taken) // interval)
        if self.steps - self.first_step <= config.learning_starts:
            return {}
        learning_rate = value_at(config.learning_rate, self.progress_remaining)
        step_size = self.scalar(learning_rate)
        seen = defaultdict(list)
        for batch in self._minibatches(taken * self.ranks if config.gradient_steps == -1 else config.gradient_steps):
            self.n_updates += 1
            metrics, error = self.update(batch, step_size)
            for tag, value in metrics.items():
                seen[tag].append(value)
            if isinstance(self.replay, PrioritizedReplay):
                assert error is not None
                self.replay.update(batch["place"], error)
            if self.followed and not counts_steps and self.n_updates % config.target_update_interval == 0:
                self._move_targets(1)
        means: Metrics = {tag: mean_of(values) for tag, values in seen.items()}
        return means | {"train/learning_rate": learning_rate, "train/n_updates": self.n_updates}

    def values(self, batch: Batch) -> Tensor | None:
        """What networks say of transitions, (..., B), to see how it differs between states; None if they have none."""
        return None

    def largest_reward(self) -> Tensor:
        """The largest magnitude of a reward that is learned from, 0-d."""
        return self.replay.largest_reward()

    @torch.no_grad()
    def signs(self) -> Metrics:
        """The largest reward, and how far the values of the last states differ; of several networks, of the worst."""
        batch = self.replay.recent(LOOKED_AT)
        if batch is None or not self.n_updates:
            return {}
        signs: Metrics = {"rollout/reward_max": self.largest_reward()}
        if (values := self.values(batch)) is not None:
            weight = batch.weight / batch.weight.sum().clamp(min=1.0)
            mean = (values * weight).sum(-1, keepdim=True)
            signs["train/value_spread"] = ((values - mean).square() * weight).sum(-1).amin().sqrt()
        return signs

    @torch.no_grad()
    def distributions(self) -> dict[str, Tensor]:
        """Actions."""
        batch = self.replay.recent(DRAWN)
        return {} if batch is None else {"actions": self.to_env(batch.action)}

    def _minibatches(self, number: int) -> Iterator[dict[str, Any]]:
        """``number`` minibatches, drawn and prepared in as few passes as possible."""
        size = self.config.batch_size
        most = max(1, AT_ONCE // size) if self.drawn_ahead else 1
        for first in range(0, number, most):
            yield from minibatches(self.prepare(self.draw(min(most, number - first) * size)), size)

    def draw(self, size: int) -> Batch:
        """Draws ``size`` transitions, whole minibatches: from the replay, and a share of each from the dataset."""
        return self._from_replay(size) if self.offline is None else self.offline.join(self._from_replay, size)

    def _from_replay(self, size: int) -> Batch:
        if isinstance(self.replay, PrioritizedReplay):
            beta = self.scalar(ramp(self.config.priority_beta, 1.0, 1.0, self.progress_remaining))
            return self.replay.sample(size, self.rng, beta)
        return self.replay.sample(size, self.rng)

    def check(self) -> None:
        """Warns about hyperparameters that do not fit together.

        Raises:
            ConfigError: Observations are to be normalised, and there is nothing to normalise.
        """
        if getattr(self.config, "normalize_obs", False):
            check_scaled(self.observation_space)
        steps = self.horizon * self.num_envs
        if self.targets_follow == "environment steps" and self.config.target_update_interval < steps:
            warnings.warn(
                f"target_update_interval={self.config.target_update_interval} is less than the {self.horizon} steps x "
                f"{self.num_envs} environments between two updates: the target network follows with every one.",
                stacklevel=2,
            )

    def memory(self) -> int:
        """Bytes of the replay."""
        return self.replay.memory(self.observation_space, self.action_space)

    def training_state(self) -> dict[str, Any]:
        """Optimizers, generator, counters and, unless that is turned off, the replay."""
        return {
            **{name: optimizer.state_dict() for name, optimizer in self._optimizers().items()},
            "rng": generator_state(self.rng),
            "steps": self.steps,
            "first_step": self.first_step,
            "n_updates": self.n_updates,
            "replay": self.replay.state_dict() if self.config.save_replay_buffer else {},
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state[name])
        set_generator_state(self.rng, state["rng"])
        self.steps = state["steps"]
        self.n_updates = state["n_updates"]
        if state["replay"]:
            self.first_step = state["first_step"]
            self._check_observations(state["replay"]["ring"]["obs"])
            self.replay.load_state_dict(state["replay"])
        else:
            self.first_step = self.steps
            warnings.warn(
                "Not bit for bit: the checkpoint holds no transitions (save_replay_buffer is off). Learning goes on "
                f"after {self.config.learning_starts:,} environment steps (learning_starts).",
                stacklevel=2,
            )

    def _check_observations(self, saved: Observation) -> None:
        """Checks that observations from a checkpoint have the shapes of the space.

        Raises:
            ValueError: They have not.
        """
        own = {name: part.shape or () for name, part in entries_of(self.observation_space).items()}
        given = {name: tuple(x.shape[1:]) for name, x in zip(names(saved), leaves(saved), strict=True)}
        if given != own:
            raise ValueError(f"the saved replay holds observations of shape {given}, not {own}")
