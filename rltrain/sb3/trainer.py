"""Runs an algorithm of Stable-Baselines3 in its own loop, and does between updates what our trainer does."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv as BaseVecEnv
from stable_baselines3.common.vec_env import VecNormalize, VecTransposeImage
from torch import Tensor

from rltrain.agent import Received
from rltrain.errors import ConfigError
from rltrain.rng import derive_seed, global_state, set_global_state, turns
from rltrain.runs.folder import RunFolder
from rltrain.sb3.agent import SB3Agent
from rltrain.sb3.vec_env import SB3VecEnv
from rltrain.training.callback_list import CallbackList
from rltrain.training.metrics import fetch
from rltrain.training.setup import Setup
from rltrain.training.trainer import Trainer
from rltrain.training.watch import Given, Look, Span
from rltrain.tree import tree_map
from rltrain.vec import VecEnv, VecStep
from rltrain.wrappers import VecWrapper


class Stop(Exception):
    """Leaves Stable-Baselines3's loop between two updates."""


class SB3Trainer(Trainer):
    """Trains an algorithm of Stable-Baselines3; see :class:`~rltrain.training.trainer.Trainer` for the arguments.

    Logging, evaluation, checkpoints and videos come after an update, as for our agents. A resume is not bit for bit:
    parameters, optimizers, statistics and counters continue, but episodes start anew, and the policy fills a replay
    buffer again before it learns.
    """

    agent: SB3Agent  # type: ignore[assignment]

    def __init__(self, setup: Setup, folder: RunFolder, interrupted: Callable[[], bool] = lambda: False) -> None:
        super().__init__(setup, folder, interrupted)
        self.model = self.agent.model
        self.n_episodes = 0
        self.step_before = 0
        self.numbers = Numbers()
        self.model.set_logger(Logger(folder=None, output_formats=[self.numbers]))
        self.model._stats_window_size = self.config.stats_window_size
        self.connect()

    @staticmethod
    def check_callbacks(algo: str, callbacks: CallbackList) -> None:
        """Refuses callbacks that need episodes as tensors, which do not exist here.

        Raises:
            ConfigError: A callback needs them.
        """
        if callbacks.want_episodes:
            raise ConfigError(
                f"There are no episodes as tensors in a run of {algo}.",
                "Leave on_episodes out of the callback, or train with an agent of ours.",
            )

    def connect(self) -> None:
        """Gives the algorithm its environments, its replay buffer, and the horizon of its schedules."""
        model, normalizer = self.model, self.agent.normalizer
        env = SB3VecEnv(Watched(self.env, self))
        env.seed(self.config.seed)
        if normalizer is not None:
            normalizer.venv, normalizer.training = channels_first(env), True
            normalizer.observation_space = seen_by(normalizer)
        model.set_env(normalizer or env)
        if isinstance(model, OffPolicyAlgorithm):
            small = model.replay_buffer
            assert small is not None
            model.buffer_size = self.agent.buffer_size or 0
            model.replay_buffer = type(small)(
                model.buffer_size,
                small.observation_space,
                small.action_space,
                device=model.device,
                n_envs=model.n_envs,
                optimize_memory_usage=model.optimize_memory_usage,
                **model.replay_buffer_kwargs,
            )

        def update_progress(num_timesteps: int, total_timesteps: int) -> None:
            # A longer run holds the final value, and the last update does not pass the end.
            model._current_progress_remaining = max(0.0, 1.0 - num_timesteps / self.config.total_timesteps)

        model._update_current_progress_remaining = update_progress  # type: ignore[method-assign]

    def run(self) -> str:
        """Trains until there is a reason to stop, and returns it."""
        self.begin()
        reason = self.reason_to_stop()
        if reason is None:
            with suppress(Stop):
                self.model.learn(
                    self.total_timesteps - self.global_step,
                    callback=Hooks(self),
                    log_interval=None,  # type: ignore[arg-type]
                    reset_num_timesteps=False,
                )
            reason = self.reason_to_stop() or "total_timesteps"
        self.end(reason)
        return reason

    def after_update(self) -> None:
        """Does what is due between two updates.

        Raises:
            Stop: There is a reason to stop.
        """
        if self.model.num_timesteps == self.global_step:
            return
        self.step_before, self.global_step = self.global_step, self.model.num_timesteps
        self.n_iterations += 1
        self.updated({**self.numbers.last, **_numbers(self.model.logger.name_to_value)})
        if self.reason_to_stop() is not None:
            raise Stop

    def given(self) -> None:
        """Nothing: what the environments give is looked at in every step."""

    def due(self, freq: int) -> bool:
        """Whether the last iteration passed a multiple of ``freq`` environment steps."""
        return freq > 0 and self.global_step // freq > self.step_before // freq

    def log(self) -> None:
        """Passes the algorithm's records to the trackers."""
        self.model.dump_logs()
        metrics = {tag: value for tag, value in self.numbers.last.items() if not tag.startswith("time/")}
        infos = fetch(self.infos.take())
        self.publish({**metrics, "rollout/episodes": self.n_episodes, **infos, **self.times()}, self.global_step)

    def training_state(self) -> dict[str, Any]:
        """Everything with memory beside the parameters, except environments and replay buffer."""
        model = self.model
        return {
            "trainer": self.progress(),
            "agent": self.agent.training_state(),
            "episodes": {
                "count": self.n_episodes,
                "last": list(model.ep_info_buffer or ()),
                "successes": [float(success) for success in model.ep_success_buffer or ()],
            },
            "callbacks": self.callbacks.state_dict(self),  # type: ignore[arg-type]  # its agent is not an Agent
            "generators": global_state(),
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        self.load_progress(state["trainer"])
        self.callbacks.load_state_dict(self, state.get("callbacks", {}))  # type: ignore[arg-type]
        self.agent.load_training_state(state["agent"])
        model, episodes, window = self.model, state["episodes"], self.config.stats_window_size
        model.num_timesteps = self.step_before = self.global_step
        self.n_episodes = episodes["count"]
        model.ep_info_buffer = deque(episodes["last"], maxlen=window)
        model.ep_success_buffer = deque(episodes["successes"], maxlen=window)
        model.env.seed(derive_seed(self.config.seed, "resume", self.global_step))  # type: ignore[union-attr]
        refill = ", and the replay buffer is filled again first" if self.agent.off_policy else ""
        warnings.warn(f"Not bit for bit: episodes of Stable-Baselines3 start anew{refill}.", stacklevel=2)
        set_global_state(state["generators"])


def channels_first(env: BaseVecEnv) -> BaseVecEnv:
    """The environments with the channels of pictures first, as policies take them.

    A replay buffer stores what VecNormalize is given, so this has to lie below it.
    """
    space = env.observation_space
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    pictures = [part for part in parts if isinstance(part, spaces.Box) and is_image_space(part)]
    if not all(map(is_image_space_channels_first, pictures)):
        return VecTransposeImage(env)
    return env


def seen_by(normalizer: VecNormalize) -> spaces.Space:
    """The space of what a normaliser gives: its own, with pictures as the environments below have them."""
    own, below = normalizer.observation_space, normalizer.venv.observation_space
    if not (isinstance(own, spaces.Dict) and isinstance(below, spaces.Dict)):
        return below if is_image_space(below) else own
    return spaces.Dict({name: below[name] if is_image_space(below[name]) else part for name, part in own.items()})


class Watched(VecWrapper):
    """Looks in every step for numbers that are not finite.

    Args:
        vec: The environments.
        trainer: Their trainer.
    """

    def __init__(self, vec: VecEnv, trainer: SB3Trainer) -> None:
        super().__init__(vec)
        self.trainer = trainer

    def step(self, action: Tensor) -> VecStep:
        """Steps every environment.

        Raises:
            RunError: A number is not finite; names the first.
        """
        step = self.vec.step(action)
        obs, final_obs = (tree_map(lambda x: x.unsqueeze(0), x) for x in (step.obs, step.final_obs))
        self.trainer.infos.note(step.info)
        terminated, returns = step.terminated.unsqueeze(0), step.episode_return.unsqueeze(0)
        now = torch.zeros(terminated.shape, dtype=torch.int64)
        received = Received(obs, final_obs, terminated, lambda: (now, now > 0))
        taken = self.trainer.model.num_timesteps + self.num_envs
        span = Span(taken, self.num_envs, self.trainer.saved_step)
        Look(self.trainer.agent, {}, {}, Given(returns, received), span).judge()  # type: ignore[arg-type]
        return step


class Hooks(BaseCallback):
    """The callback by which our trainer acts inside the loop of Stable-Baselines3."""

    def __init__(self, trainer: SB3Trainer) -> None:
        super().__init__()
        self.trainer = trainer

    def _on_training_start(self) -> None:
        model = self.model
        if not isinstance(model, OffPolicyAlgorithm) or not 0 < model.learning_starts < self.num_timesteps:
            return
        assert model.env is not None
        assert model.replay_buffer is not None
        steps = -(-model.learning_starts // model.n_envs)
        freq = TrainFreq(steps, TrainFrequencyUnit.STEP)
        model.collect_rollouts(model.env, self, freq, model.replay_buffer, model.action_noise)

    def _on_rollout_start(self) -> None:
        self.trainer.after_update()

    def _on_rollout_end(self) -> None:
        self.trainer.callbacks.rollout(self.trainer)  # type: ignore[arg-type]  # its agent is not an Agent

    def _on_step(self) -> bool:
        self.trainer.n_episodes += int(self.locals["dones"].sum())
        turns.pass_on()
        if time.monotonic() >= self.trainer.show_at:
            self.trainer.show(self.num_timesteps)
        return True

    def _on_training_end(self) -> None:
        self.trainer.after_update()


class Numbers(KVWriter):
    """Keeps the last numbers that a logger of Stable-Baselines3 was asked to write."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Keeps the numbers."""
        self.last = _numbers(key_values)

    def close(self) -> None:
        """Nothing to close."""


def _numbers(recorded: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among what was recorded; those that are NaN for lack of data are left out."""
    numbers = {tag: float(value) for tag, value in recorded.items() if not isinstance(value, str)}
    return {tag: value for tag, value in numbers.items() if value == value or tag.startswith("train/")}
