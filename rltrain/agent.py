"""The interface of agents: act, record, and learn every ``horizon`` steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.compile import can_lower, fused, recorded
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.traced import Traced
from rltrain.tree import leaves, tree_where
from rltrain.vec import VecStep

Metrics: TypeAlias = dict[str, Tensor | float]
"""By TensorBoard tag: 0-d tensors on the device, and numbers that the host knows anyway."""


State: TypeAlias = Any
"""The recurrent state of N episodes: a tree of tensors (N, ...), see :mod:`rltrain.tree`; None without memory.

The rows are the first dimension of every tensor, also where torch's own layers have them second: (N, layers, H).
"""

ACTOR = "actor."
"""What the names of the policy's tensors begin with, among those of its agent."""


SCALARS = 64
"""Numbers that are kept as tensors; most stay the same for a while."""


TEACHER = "teacher."
"""What the names of the tensors of an agent's teacher begin with."""


class ActOut(NamedTuple):
    """The answer to a batch of observations."""

    action: Tensor  # (N, *A), inside the action space
    state: State = None  # the recurrent state after these observations; None without memory


def next_state(out: ActOut, step: VecStep, initial: State) -> State:
    """The recurrent state to act with after a step: ``initial`` where an episode ended, ``out.state`` elsewhere.

    Args:
        out: The answer of the actor, with which the step was taken.
        step: The outcome of the step.
        initial: The state at the start of an episode, for N rows.
    """
    if out.state is None:
        return None
    return tree_where(step.terminated | step.truncated, initial, out.state)


class Received(NamedTuple):
    """What environments gave an agent since its last update, as far as it keeps that, in steps T from old to new."""

    obs: Any  # tree (T, N, *O), acted upon
    final_obs: Any = None  # tree (T, N, *O), if it is kept apart; where terminated nothing reads it
    terminated: Tensor | None = None  # (T, N) bool, with final_obs
    steps: Callable[[], tuple[Tensor, Tensor]] | None = None
    """For a replay: (T, N) int steps that obs came from, 0 for the last one; and (T, N) bool, whether as final_obs."""


class Actor(nn.Module, ABC):
    """A policy: maps observations and a recurrent state to actions and the next state.

    It contains everything between an observation of the environment and an action for it: the normaliser, the
    networks, the action mask, the distribution, the clipping. A checkpoint saves it as the policy, and it is used to
    evaluate, film, serve and export; critics, target networks and optimisers are not part of it.

    A subclass writes :meth:`choose`, and :meth:`initial_state` if it has memory. The actor does not reset the state by
    itself: the caller that plays the episodes does, by :func:`next_state` or with ``episode_start``.
    """

    def forward(
        self,
        obs: Observation,
        state: State = None,
        episode_start: Tensor | None = None,
        *,
        deterministic: bool = True,
        rng: torch.Generator | None = None,
    ) -> ActOut:
        """Returns actions for ``obs`` and the state to act with next. Changes nothing that is trained.

        Args:
            obs: Observations (N, *O) as the environment gives them.
            state: The state that the previous call returned; None at the start of all episodes.
            episode_start: (N,) bool, true where ``obs`` is the first of an episode; its state is then reset here. None
                if the caller has reset it already.
            deterministic: The most likely action rather than a sample.
            rng: Generator for the samples; None means torch's default generator.
        """
        if state is None:
            state = self.initial_state(next(leaves(obs)).shape[0])
        elif episode_start is not None:
            state = tree_where(episode_start, self.initial_state(episode_start.shape[0]), state)
        return self.choose(obs, state, deterministic=deterministic, rng=rng)

    def initial_state(self, n: int) -> State:
        """The state of ``n`` rows at the start of an episode; None without memory."""
        return None

    def log_likelihood(self, obs: Observation, action: Tensor) -> Tensor:
        """Log-probabilities, or log-densities of numbers, of actions (B, *A) where the policy samples them: (B,).

        Raises:
            ConfigError: They are not known, or the actor has memory.
        """
        raise ConfigError(
            f"{type(self).__name__} does not say how likely its actions are.", "Use another estimate, such as fqe."
        )

    def traceable(self) -> Actor:
        """The same policy in operations on tensors alone, from which exporters make a graph; here it is this actor."""
        return self

    @abstractmethod
    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """Returns what :meth:`forward` returns; ``state`` is never None if the actor has memory."""


def identity(tensor: Tensor) -> Tensor:
    """The mean over one rank."""
    return tensor


class StackedAgent(Protocol):
    """K agents as one. ``act`` and ``record`` are those of an :class:`Agent` with K * N environments, seed by seed."""

    progress_remaining: float

    def act(self, obs: Observation, state: State = None) -> ActOut:
        """Actions (K * N, *A) to explore with."""

    def record(self, out: ActOut, step: VecStep) -> None:
        """Adds the outcome of the last ``act``."""

    def learn_each(self) -> list[Metrics]:
        """Improves the policies and returns the metrics of each."""


class Agent(nn.Module, ABC):
    """A learner, and the :class:`Actor` that it trains.

    The trainer calls ``act``, steps the environment, calls ``record``, and after ``horizon`` such steps
    ``learn``. None of them waits for the device.

    A subclass makes ``actor`` in its constructor, of the same modules that it trains. Every tensor is in its
    ``state_dict`` once. Tensors that acting needs are named ``actor.*``, and a checkpoint saves them as the policy. The
    others, such as those of critics and target networks, have their own names, and are saved with the rest of training.

    **With memory.** The actor has an ``initial_state``, and ``act`` returns the state after ``obs`` in its
    :class:`ActOut`. The trainer passes that state to the next ``act``, and resets it by :func:`next_state` in the rows
    whose episode ended. ``record`` gets the state that ``act`` returned, before the reset, so that
    ``step.final_obs`` is valued with the memory of its own episode. To learn from sequences, an agent keeps the
    state at the start of a rollout, and finds from ``terminated | truncated`` where the state was reset in it.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        num_envs: N, on this rank.
        config: Hyperparameters, an instance of the agent's own config class; sizes are this rank's share.
        device: Device of all tensors.
        seed: Seed of everything random in the agent.

    Attributes:
        actor: The policy; made by the subclass.
        horizon: Environment steps between two calls of ``learn``.
        log_interval: Updates between two log points, unless the run says otherwise.
        progress_remaining: Share of training still ahead, 1 to 0, set by the trainer before each
            iteration; schedules are functions of it, so they survive a resume.
        reduce: Mean of a tensor over all ranks; the identity unless a distributed runtime sets it. All ranks must
            call it equally often, with tensors of the same shape.
        ranks: Number of ranks.
        teacher: The policy that it imitates, see :meth:`learn_from`; None without one.
        compiled_methods: Methods that :meth:`compile` passes to ``torch.compile``: functions of tensors that draw no
            random numbers.
        graph_methods: Methods captured as CUDA graphs on a GPU, by whether their results must outlive the next call;
            see :class:`rltrain.compile.Recorded`. On a CPU, :meth:`compile` records and compiles them, see
            :class:`rltrain.traced.Traced`.
        descriptions: What metrics of its own mean, by tag, in Markdown; TensorBoard shows it beside their curves.
    """

    descriptions: ClassVar[dict[str, str]] = {}
    compiled_methods: ClassVar[tuple[str, ...]] = ()
    graph_methods: ClassVar[dict[str, bool]] = {}
    actor: Actor
    horizon: int
    log_interval: int = 1
    exact_resume = True  # whether module state and training_state() hold all there is to continue bit for bit

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: Any,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.action_space = action_space
        self.num_envs = num_envs
        self.config = config
        self.device = torch.device(device)
        self.seed = seed
        self.teacher: Actor | None = None
        self.progress_remaining = 1.0
        self.reduce: Callable[[Tensor], Tensor] = identity
        self.ranks = 1
        self.compiled = False
        self._scalars: dict[float, Tensor] = {}
        self.register_state_dict_post_hook(_without_aliases)
        self.register_load_state_dict_post_hook(_aliases_given)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compiles acting and learning into fewer kernels by ``torch.compile``; on a GPU they become CUDA graphs.

        Args:
            *args: Arguments of ``torch.compile``.
            **options: Options of ``torch.compile``, such as ``backend``.

        Raises:
            ConfigError: The agent has no methods to compile.
        """
        if not self.compiled_methods:
            raise ConfigError(f"{type(self).__name__} has nothing to compile.", "Leave --compile out.")
        alone = self.reduce is identity  # communication between ranks cannot be recorded
        if alone and self.graph_methods and not (args or options) and can_lower(self.device):
            for name in self.graph_methods:
                setattr(self, name, Traced(getattr(self, name)))
            self.compiled = True
            return
        for name in self.compiled_methods:
            setattr(self, name, fused(getattr(self, name), *args, **options))
        if alone:
            for name, fresh in self.graph_methods.items():
                setattr(self, name, recorded(getattr(self, name), self.device, fresh=fresh))
        self.compiled = True

    def use_bfloat16(self) -> None:
        """Lets networks multiply in bfloat16.

        Raises:
            ConfigError: The agent does not support it.
        """
        raise ConfigError(f"{type(self).__name__} has no networks in bfloat16.", "Leave --bfloat16 out.")

    def learn_from(self, teacher: Actor, coef: float | str) -> None:
        """Lets the agent imitate a teacher while it learns; called once, before training starts.

        Args:
            teacher: Acts in the same spaces, without memory. It becomes a submodule named ``teacher``, so that
                checkpoints hold it.
            coef: The weight of imitation in the loss, a number or a schedule such as ``lin_1.0``.

        Raises:
            ConfigError: The agent does not support it.
        """
        raise ConfigError(f"{type(self).__name__} cannot learn from a teacher.", "Leave --teacher out, or train ppo.")

    def scalar(self, value: float) -> float | Tensor:
        """A changing number as compiled methods take it: a 0-d tensor on the device once they are compiled."""
        if not self.compiled:
            return value
        if value not in self._scalars:
            if len(self._scalars) >= SCALARS:
                self._scalars.clear()
            self._scalars[value] = torch.full((), value, device=self.device)
        return self._scalars[value]

    def check(self) -> None:
        """Warns of hyperparameters that fit together badly; called once before a new run.

        Raises:
            ConfigError: An option cannot have the effect that it asks for.
        """

    def from_policy(self, state: Mapping[str, Tensor], config: Callable[[], Any]) -> dict[str, Tensor]:
        """The learned tensors of another agent by the names that this one has for them, for a run that starts from it.

        Args:
            state: The tensors, by the names of the agent that learned them.
            config: Returns the hyperparameters of that agent.
        """
        return dict(state)

    def keep_statistics(self, names: Iterable[str]) -> None:
        """Forgets statistics of observations that are not among the names of a run's saved tensors.

        Called before the policy of a run is loaded. Normalisers of earlier versions scaled fewer parts.
        """
        for module in self.modules():
            if (keep_only := getattr(module, "keep_only", None)) is not None:
                keep_only(names)

    def memory(self) -> int:
        """Bytes of the experience that the agent will keep; a run is refused if they do not fit into memory."""
        return 0

    @abstractmethod
    def act(self, obs: Observation, state: State = None) -> ActOut:
        """Actions to explore with, for training. Keeps what learning needs of ``obs`` (N, *O) and ``state``."""

    @abstractmethod
    def record(self, out: ActOut, step: VecStep) -> None:
        """Adds the outcome of the last ``act``; the state in ``out`` is not yet reset where an episode ended."""

    @abstractmethod
    def learn(self) -> Metrics:
        """Improves the policy; returns metrics, always under the same tags once there are any."""

    def received(self) -> Received | None:
        """What the environments gave since the last update, valid until the next ``act``; None if it is not kept.

        It is looked through after every update for numbers that are not finite.
        """
        return None

    def signs(self) -> Metrics:
        """Further metrics, 0-d tensors, of what was learned from last. Called at log points alone; must not wait."""
        return {}

    def distributions(self) -> dict[str, Tensor]:
        """Numbers whose distribution is shown from time to time, by tag: ``actions`` (B, *A), ``advantages`` (B,), ...

        Parameters and their gradients need not be among them. Called at log points alone; must not wait.
        """
        return {}

    @torch.no_grad()
    def predict(
        self,
        obs: Observation,
        state: State = None,
        *,
        deterministic: bool = True,
        rng: torch.Generator | None = None,
    ) -> ActOut:
        """The actor's actions for ``obs`` (N, *O), without gradients; see :meth:`Actor.forward`."""
        return self.actor(obs, state, deterministic=deterministic, rng=rng)

    @abstractmethod
    def training_state(self) -> dict[str, Any]:
        """Everything that ``learn`` needs besides the module state: optimizer, generators, counters."""

    @abstractmethod
    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`training_state` returned."""


def _aliases(agent: nn.Module) -> set[str]:
    """The names of tensors that are in the agent's actor as well."""
    actor = getattr(agent, "actor", None)
    if actor is None:
        return set()
    named = [*agent.named_parameters(remove_duplicate=False), *agent.named_buffers(remove_duplicate=False)]
    inside = {id(tensor) for tensor in (*actor.parameters(), *actor.buffers())}
    return {name for name, tensor in named if id(tensor) in inside and not name.startswith(ACTOR)}


def _without_aliases(agent: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Removes the second copy of every shared tensor from a state dict."""
    for name in _aliases(agent):
        state.pop(prefix + name, None)


def _aliases_given(agent: nn.Module, incompatible: Any) -> None:
    """Drops shared tensors from the missing keys: loading the actor has set them."""
    aliases = _aliases(agent)
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if name not in aliases]
