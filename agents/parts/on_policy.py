"""The base class of agents that learn from rollouts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from gymnasium import spaces
from torch import Tensor

from rltrain.agent import ActOut, Agent, Received, State
from rltrain.agents.parts.optim import FlatAdam
from rltrain.agents.parts.recurrent import envs_in_minibatch, sequence_minibatches
from rltrain.agents.parts.rollout import Rollout, flat, shuffled_minibatches, warn_of_remainder
from rltrain.env import Observation
from rltrain.normalize import ObservationNormalizer, check_scaled
from rltrain.rng import derive_seed, generator_state, make_generator, set_generator_state
from rltrain.tree import leaves, tree_map
from rltrain.vec import VecStep


class OnPolicyAgent(Agent):
    """An agent that collects ``n_steps`` of every environment, learns from them and discards them.

    A subclass makes its networks and ``optimizer``, acts, and clears ``rollout`` when it has learned from it. Its
    config has ``n_steps``, ``batch_size`` and ``normalize_obs``. See :class:`~rltrain.agent.Agent` for the arguments.

    If the networks have a memory, the subclass sets ``recurrent``. Its ``act`` then begins with :meth:`state_before`,
    and stores the state after every step as ``state``: not yet reset, since that is what ``final_obs`` is valued with.
    """

    config: Any
    optimizer: FlatAdam
    recurrent = False  # whether the networks have a memory
    first_state: State = None  # before the first step of the rollout
    stack: tuple[int, ...] = ()  # leading dimensions of values that are one number per agent

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, num_envs: int, config: Any, **options: Any
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, **options)
        self.horizon = config.n_steps
        self.obs_normalizer = (
            ObservationNormalizer(observation_space, device=self.device) if config.normalize_obs else None
        )
        self.rng = make_generator(self.device, derive_seed(options.get("seed", 0), "agent"))
        self.rollout = Rollout(self.horizon)
        self.learned_from: dict[str, Tensor] = {}  # parts of the last batch, for log points
        self.part_of: tuple[OnPolicyAgent, int] | None = None  # the agent that learns for several, and the place in it
        self.n_updates = 0

    def check(self) -> None:
        """Warns about hyperparameters that do not fit together.

        Raises:
            ConfigError: Observations are to be normalised, and there is nothing to normalise.
        """
        if self.config.normalize_obs:
            check_scaled(self.observation_space)
        size = self.config.batch_size
        if self.recurrent:
            size = self.horizon * envs_in_minibatch(size, self.horizon)
            if size != self.config.batch_size:
                warnings.warn(
                    f"batch_size={self.config.batch_size} is no multiple of n_steps={self.horizon}: with memory a "
                    f"minibatch has whole sequences, {size} transitions.",
                    stacklevel=2,
                )
        warn_of_remainder(self.horizon, self.num_envs, size)

    def bytes_of_states(self) -> int:
        """Bytes of the recurrent states of a rollout; 0 without memory."""
        return self.horizon * self.num_envs * sum(state.nbytes for state in leaves(self.actor.initial_state(1)))

    def state_before(self, state: State) -> State:
        """The state to act with; that of the first step of a rollout is kept, to learn from sequences that start there.

        Args:
            state: What ``act`` was given; with memory, None stands for the start of all episodes.
        """
        if state is None and self.recurrent:
            state = self.actor.initial_state(self.num_envs)
        if self.rollout.step == 0:
            self.first_state = state
        return state

    def last_rollout(self, name: str) -> Any:
        """A tree of the last rollout, (T, N, ...); None if there is none. Valid until the next ``act``."""
        if self.part_of is None:
            return self.rollout.get(name)
        together, k = self.part_of
        tree = together.rollout.get(name)
        return None if tree is None else tree_map(lambda x: x[:, k], tree)

    def last_batch(self) -> dict[str, Tensor]:
        """Parts of the last batch by name, (B, ...); none before the first update."""
        if self.part_of is None:
            return self.learned_from
        together, k = self.part_of
        return {name: part[k] for name, part in together.learned_from.items()}

    def record(self, out: ActOut, step: VecStep) -> None:
        """Stores the outcome of the last ``act``."""
        self.rollout.store(
            reward=step.reward, terminated=step.terminated, truncated=step.truncated, final_obs=step.final_obs
        )
        self.rollout.advance()

    def received(self) -> Received | None:
        """The rollout, which stays as it is when it was learned from."""
        rollout = self.rollout
        return Received(rollout.get("obs"), rollout.get("final_obs"), rollout.get("terminated"))

    def _normalized(self, obs: Observation) -> Observation:
        return obs if self.obs_normalizer is None else self.obs_normalizer(obs)

    def training_state(self) -> dict[str, Any]:
        """Optimizer, generator and counter."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "rng": generator_state(self.rng),
            "n_updates": self.n_updates,
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        set_generator_state(self.rng, state["rng"])
        self.n_updates = state["n_updates"]

    # Overridden where several agents learn as one, see stacked.py.

    def _flat(self, tree: Any) -> Any:
        """Reshapes a tree of a rollout, (T, N, ...), to a batch (T * N, ...)."""
        return flat(tree)

    def _by_step(self, batch: Tensor) -> Tensor:
        """Numbers (T * N,) as (T, N)."""
        return batch.view(self.horizon, self.num_envs)

    def _minibatches(self, batch: Any) -> Iterator[Any]:
        """The minibatches of an epoch: of steps in any order, or with memory of environments with all steps of each."""
        if self.recurrent:
            done = self.rollout["terminated"] | self.rollout["truncated"]
            envs = envs_in_minibatch(self.config.batch_size, self.horizon)
            return sequence_minibatches(batch, self.first_state, done, envs, self.rng)
        return shuffled_minibatches(batch, self.config.batch_size, self.rng)

    def _update_obs_normalizer(self) -> None:
        """Adds the rollout to the statistics, after the update, so that acting and learning use the same ones."""
        if self.obs_normalizer is not None:
            self.obs_normalizer.update(flat(self.rollout["obs"]))
