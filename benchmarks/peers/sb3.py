"""Stable-Baselines3, and libraries with its interface."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.peers import SOLVED, WINDOW
from benchmarks.peers.cartpole import BatchedCartPole

ZOO = {  # RL Zoo's for CartPole-v1, on 8 environments, over 100,000 steps
    "n_steps": 32,
    "batch_size": 256,
    "gae_lambda": 0.8,
    "gamma": 0.98,
    "n_epochs": 20,
    "ent_coef": 0.0,
    "learning_rate": "lin_0.001",
    "clip_range": "lin_0.2",
}
BATCHED = {**ZOO, "batch_size": 512, "n_epochs": 10, "learning_rate": "lin_0.003"}  # for 64 environments


class BatchedVecEnv(VecEnv):
    """The batched CartPole as a ``VecEnv``, with the episode statistics of ``VecMonitor``."""

    def __init__(self, num_envs: int) -> None:
        self.env = BatchedCartPole(num_envs)
        super().__init__(num_envs, self.env.single_observation_space, self.env.single_action_space)
        self.begin = time.time()
        self.empty: list[dict[str, Any]] = [{} for _ in range(num_envs)]

    def reset(self) -> np.ndarray:
        return self.env.reset(seed=self._seeds[0])[0]

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, reward, terminated, truncated, ended = self.env.step(self.actions)
        if not ended:
            return obs, reward, terminated | truncated, self.empty
        infos = self.empty.copy()
        seconds = round(time.time() - self.begin, 6)
        for row, final_obs, length in zip(ended["ends"], ended["final_obs"], ended["lengths"].tolist(), strict=True):
            infos[row] = {
                "terminal_observation": final_obs,
                "TimeLimit.truncated": bool(truncated[row]),
                "episode": {"r": float(length), "l": length, "t": seconds},
            }
        return obs, reward, terminated | truncated, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("a batch has no single environments to call")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class Loop:
    """A model in its environments, trained as by its ``learn``, without logging.

    Args:
        model: PPO or DQN.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        _, self.callback = model._setup_learn(10**9)

    def iterate(self) -> int:
        """A rollout and an update; returns the transitions."""
        model, before = self.model, self.model.num_timesteps
        if hasattr(model, "replay_buffer"):
            options = {"learning_starts": model.learning_starts, "log_interval": None}
            model.collect_rollouts(model.env, self.callback, model.train_freq, model.replay_buffer, **options)
            if model.num_timesteps > model.learning_starts:
                model.train(gradient_steps=model.gradient_steps, batch_size=model.batch_size)
        else:
            model.collect_rollouts(model.env, self.callback, model.rollout_buffer, model.n_steps)
            model.train()
        return int(model.num_timesteps - before)

    def close(self) -> None:
        """Ends the environments."""
        self.model.env.close()


class UntilSolved(BaseCallback):
    """Stops when the threshold is reached at the end of a rollout, and notes when rollouts begin and end."""

    def __init__(self) -> None:
        super().__init__()
        self.solved, self.marks = False, [time.perf_counter()]

    def _on_rollout_start(self) -> None:
        self.marks.append(time.perf_counter())

    def _on_rollout_end(self) -> None:
        self.marks.append(time.perf_counter())
        returns = [episode["r"] for episode in self.model.ep_info_buffer]
        self.solved |= len(returns) == WINDOW and statistics.mean(returns) >= SOLVED

    def _on_step(self) -> bool:
        return not self.solved

    def seconds(self) -> tuple[float, float]:
        """Seconds of learning, and the extra time of the first rollout and update, which is compilation."""
        spans = np.diff(self.marks[1:])
        usual = [statistics.median(spans[kind::2]) for kind in (0, 1)]
        start = max(float(spans[:2].sum() - sum(usual)), 0.0)
        return self.marks[-1] - self.marks[1] - start, start


def training(
    how: str, point: dict[str, Any], seed: int, algos: dict[str, Any] | None = None
) -> Callable[[], int] | None:
    """PPO or DQN, past the steps that DQN collects before it learns."""
    algorithm = (algos or {"ppo": PPO, "dqn": DQN}).get(point["algo"])
    if algorithm is None:
        return None
    env = BatchedVecEnv(point["num_envs"])
    policy = {"net_arch": point["net_arch"]}
    model = algorithm("MlpPolicy", env, device="cpu", seed=seed, policy_kwargs=policy, **point["agent"])
    loop = Loop(model)
    while model.num_timesteps < point["agent"].get("learning_starts", 0):
        loop.iterate()
    return loop.iterate


def solving(how: str, seed: int, algorithm: Any = PPO) -> dict[str, Any]:
    """PPO with the settings of RL Zoo in its ``DummyVecEnv``, or in more environments that are batched."""
    zoo = how == "PPO as in RL Zoo"
    env = make_vec_env("CartPole-v1", 8, seed=seed) if zoo else BatchedVecEnv(64)
    settings = ZOO if zoo else BATCHED
    options = {name: scheduled(value) for name, value in settings.items()}
    model = algorithm("MlpPolicy", env, device="cpu", seed=seed, **options)
    until = UntilSolved()
    model.learn(100_000 if zoo else 200_000, callback=until)
    seconds, start = until.seconds()
    return {
        "seconds": round(seconds, 3),
        "start_seconds": round(start, 3),
        "steps": model.num_timesteps,
        "solved": until.solved,
        "settings": {"num_envs": env.num_envs, **settings},
    }


def scheduled(value: Any) -> Any:
    """A schedule of RL Zoo, ``lin_X``, as a function of the progress that remains."""
    if not isinstance(value, str):
        return value
    initial = float(value.removeprefix("lin_"))
    return lambda left: initial * left
