"""An algorithm of Stable-Baselines3 as an agent that acts and can be saved: ``agent.PPO`` is a class."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from rltrain.adapters.to_gymnasium import to_numpy
from rltrain.agent import ACTOR, Actor, ActOut
from rltrain.config import AgentConfig
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.normalize import check_scaled, is_scaled
from rltrain.rng import global_kept, seed_global
from rltrain.sb3.algorithms import ALGORITHMS
from rltrain.sb3.arguments import constructor_arguments, policy_name
from rltrain.sb3.blank import Blank
from rltrain.sb3.settings import algorithm
from rltrain.sb3.spaces import Adapted
from rltrain.sb3.traceable import TraceableActor
from rltrain.sb3.translate import OBS, RETURN
from rltrain.spaces import MASK, bytes_of
from rltrain.wrappers.actions import has_bounds

COUNTERS = ("_n_updates", "_episode_num", "_n_calls")


class SB3Agent:
    """Acts, and saves and loads its state as tensors. ``rltrain.sb3.trainer`` makes it learn.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        num_envs: N.
        config: Hyperparameters.
        device: Device of the policy.
        seed: Seed of everything random in the algorithm.

    Raises:
        ConfigError: Stable-Baselines3 refuses the spaces or hyperparameters.
    """

    algorithm: ClassVar[type[BaseAlgorithm]]
    horizon = 1
    exact_resume = False

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: AgentConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.adapted = Adapted(observation_space, action_space)
        self.device = torch.device(device)
        box, name = self.adapted.action_space, self.algorithm.__name__
        squashes = issubclass(self.algorithm, OffPolicyAlgorithm)
        if isinstance(box, spaces.Box) and not (has_bounds(box) if squashes else box.is_bounded()):
            raise ConfigError(
                f"{name} of Stable-Baselines3 takes no unbounded actions, and these are {box}.",
                "Use an environment whose actions have finite bounds, or train with ppo.",
            )
        values = dict(config)
        norm_obs, norm_reward = values.pop("normalize_obs"), values.pop("normalize_reward")
        self.normalize_obs = norm_obs
        self.buffer_size = values.get("buffer_size")
        if self.buffer_size is not None:
            values["buffer_size"] = num_envs  # room for one step: only training needs more
        with warnings.catch_warnings(record=True) as self._said, global_kept():  # it seeds the whole process
            warnings.simplefilter("always", UserWarning)
            try:
                env = Blank(num_envs, self.adapted.observation_space, self.adapted.action_space)
                self.normalizer = None
                if norm_obs or norm_reward:
                    self.normalizer = make_normalizer(env, norm_obs, norm_reward, values["gamma"])
                self.model = self.algorithm(
                    policy_name(self.adapted.observation_space),
                    self.normalizer or env,
                    seed=seed % 2**32,
                    device=self.device,
                    **constructor_arguments(values, self.adapted.action_space),
                )
                if self.by_episode and num_envs > 1:
                    raise ValueError(f"updates by the episode take one environment, not {num_envs}")
            except (AssertionError, ValueError, TypeError, RuntimeError) as error:
                fix = f"See 'rltrain agents sb3/{name.lower()}' for its options."
                if "Kernel size" in str(error):
                    fix = "Its convolutions take no small pictures: give --env.resize 36, or train ppo."
                raise ConfigError(f"{name} of Stable-Baselines3 refuses this: {error}", fix) from error

        self.actor = SB3Actor(self)
        if hasattr(self.model, "exploration_rate"):  # of acting without learning
            self.model.exploration_rate = values["exploration_final_eps"]

    @property
    def off_policy(self) -> bool:
        """Whether it learns from a replay buffer."""
        return isinstance(self.model, OffPolicyAlgorithm)

    @property
    def log_interval(self) -> int:
        """Updates between two log points, unless the run says otherwise: 1, or some 1,000 environment steps."""
        if not isinstance(self.model, OffPolicyAlgorithm) or self.by_episode:
            return 1
        return max(1, 1_000 // (self.model.train_freq.frequency * self.model.n_envs))  # type: ignore[union-attr]

    @property
    def by_episode(self) -> bool:
        """Whether it learns after so many episodes rather than steps."""
        freq = getattr(self.model, "train_freq", None)
        return isinstance(freq, TrainFreq) and freq.unit is TrainFrequencyUnit.EPISODE

    def check(self) -> None:
        """Repeats the warnings of Stable-Baselines3; called once before a run.

        Raises:
            ConfigError: Observations are to be normalised, and there is nothing to normalise.
        """
        if self.normalize_obs:
            check_scaled(self.observation_space)
        for said in self._said:
            warnings.warn(" ".join(str(said.message).split()), stacklevel=2)
        if isinstance(self.observation_space, spaces.Dict) and MASK in self.observation_space.spaces:
            warnings.warn(
                f"To {self.algorithm.__name__} of Stable-Baselines3 the action mask is a part of the observation: "
                "it may choose what is not allowed. Our ppo does not.",
                stacklevel=2,
            )

    def keep_statistics(self, names: Iterable[str]) -> None:
        """Forgets statistics of observations that are not among the names of a run's tensors; see our agents."""
        normalizer, prefix = self.normalizer, ACTOR + OBS
        if normalizer is None or not normalizer.norm_obs:
            return
        given = {name.removeprefix(prefix).rpartition(".")[0] for name in names if name.startswith(prefix)}
        if isinstance(normalizer.obs_rms, dict):
            normalizer.obs_rms = {key: each for key, each in normalizer.obs_rms.items() if key in given}
            normalizer.norm_obs_keys = list(normalizer.obs_rms)
        normalizer.norm_obs = bool(given)

    def memory(self) -> int:
        """Bytes of the replay buffer; 0 on a GPU, because it stays in the host's memory."""
        if self.buffer_size is None or self.device.type != "cpu":
            return 0
        return self.buffer_size * (2 * bytes_of(self.observation_space) + bytes_of(self.model.action_space) + 9)

    def state_dict(self) -> dict[str, Tensor]:
        """The actor's tensors, which are all that there are; see :class:`rltrain.agent.Agent`."""
        return {ACTOR + name: tensor for name, tensor in self.actor.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Puts back what :meth:`state_dict` gave.

        Raises:
            RuntimeError: The networks or the normalisation differ.
        """
        self.actor.load_state_dict({name.removeprefix(ACTOR): tensor for name, tensor in state.items()})

    def training_state(self) -> dict[str, Any]:
        """Optimizers, further variables, counters and the statistics of rewards; no replay buffer."""
        modules, variables = self.model._get_torch_save_params()
        state: dict[str, Any] = {
            "optimizers": {
                name: recursive_getattr(self.model, name).state_dict() for name in modules if name != "policy"
            },
            "variables": {name: recursive_getattr(self.model, name).detach() for name in variables},
            "counters": {name: getattr(self.model, name) for name in COUNTERS if hasattr(self.model, name)},
        }
        if self.normalizer is not None:
            state["return"] = _moments({"": self.normalizer.ret_rms}, RETURN)
        return state

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        self.load_optimizers(state["optimizers"], state["variables"])
        for name, saved in state["counters"].items():
            setattr(self.model, name, saved)
        if self.normalizer is not None:
            _set_moments({"": self.normalizer.ret_rms}, state["return"], RETURN)

    def load_optimizers(self, optimizers: dict[str, Any], variables: dict[str, Tensor]) -> None:
        """Puts back the state of optimizers, and variables that are learned beside the policy."""
        for name, saved in optimizers.items():
            moments = {int(index): slot for index, slot in saved["state"].items()}
            recursive_getattr(self.model, name).load_state_dict({**saved, "state": moments})
        for name, variable in variables.items():
            if variable is not None:
                recursive_getattr(self.model, name).data.copy_(variable)


class SB3Actor(Actor):
    """The policy of an algorithm, with its critics, which Stable-Baselines3 holds in one module.

    Args:
        agent: The algorithm.
    """

    def __init__(self, agent: SB3Agent) -> None:
        super().__init__()
        self.algorithm = agent.model
        self.normalizer = agent.normalizer
        self.observation_space, self.action_space = agent.observation_space, agent.action_space
        self.adapted = agent.adapted

    def choose(self, obs: Observation, state: None, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """Actions (N, *A)."""
        arrays = self.adapted.obs(to_numpy(obs, self.observation_space))
        if self.normalizer is not None:
            arrays = self.normalizer.normalize_obs(arrays)
        if deterministic or rng is None:
            actions, _ = self.algorithm.predict(arrays, deterministic=deterministic)
        else:
            with global_kept():  # it draws from the process-wide generators
                seed_global(int(torch.randint(2**62, (), generator=rng, device=rng.device)))
                actions, _ = self.algorithm.predict(arrays, deterministic=False)
        typed = self.adapted.action(np.asarray(actions)).astype(self.action_space.dtype, copy=False)
        return ActOut(torch.from_numpy(typed).to(self.algorithm.device))

    def traceable(self) -> Actor:
        """The same policy without NumPy."""
        return TraceableActor(self.algorithm.policy, self.action_space, self.adapted, self.normalizer)

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        """What acting needs: the policy's parameters, and the statistics that observations are scaled by."""
        return {**self.algorithm.policy.state_dict(), **_moments(self._obs_moments(), OBS)}

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:  # type: ignore[override]
        """Puts back what :meth:`state_dict` gave.

        Raises:
            RuntimeError: It is of other networks, or normalised otherwise.
        """
        _set_moments(self._obs_moments(), state, OBS)
        policy = {name: tensor for name, tensor in state.items() if not name.startswith(OBS)}
        loaded = self.algorithm.policy.load_state_dict(policy)
        if self.algorithm.use_sde:  # its noise depends on the deviations
            self.algorithm.policy.reset_noise()  # type: ignore[operator]
        return loaded

    def _obs_moments(self) -> dict[str, RunningMeanStd]:
        if self.normalizer is None or not self.normalizer.norm_obs:
            return {}
        moments = self.normalizer.obs_rms
        return moments if isinstance(moments, dict) else {"": moments}


def make_normalizer(env: Blank, obs: bool, reward: bool, gamma: float) -> VecNormalize:
    """Scales numbers, as our agents do; categories, images and masks pass through."""
    keys = None
    if isinstance(env.observation_space, spaces.Dict):
        keys = [name for name, part in env.observation_space.spaces.items() if is_scaled(name, part)]
        obs = obs and bool(keys)
    else:
        obs = obs and is_scaled("", env.observation_space)
    return VecNormalize(env, training=False, norm_obs=obs, norm_reward=reward, gamma=gamma, norm_obs_keys=keys)


def _moments(moments: dict[str, RunningMeanStd], prefix: str) -> dict[str, Tensor]:
    return {
        f"{prefix}{name}.{part}": torch.as_tensor(getattr(each, part), dtype=torch.float64)
        for name, each in moments.items()
        for part in ("mean", "var", "count")
    }


def _set_moments(moments: dict[str, RunningMeanStd], state: Mapping[str, Tensor], prefix: str) -> None:
    wanted = {f"{prefix}{name}.{part}" for name in moments for part in ("mean", "var", "count")}
    given = {name for name in state if name.startswith(prefix)}
    if wanted != given:
        raise RuntimeError(f"other statistics: {', '.join(sorted(wanted ^ given))}")
    for name, each in moments.items():
        each.mean, each.var = (state[f"{prefix}{name}.{part}"].cpu().numpy().copy() for part in ("mean", "var"))
        each.count = float(state[f"{prefix}{name}.count"])


@cache
def agent_class(name: str) -> type[SB3Agent]:
    """The class for an algorithm."""
    return type(name, (SB3Agent,), {"algorithm": algorithm(name), "__doc__": f"Stable-Baselines3's {name}."})


def __getattr__(name: str) -> Any:
    if name not in ALGORITHMS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return agent_class(name)
