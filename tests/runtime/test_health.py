"""Diagnoses: each is made on a run that was made sick for it, once, and not on a sound one."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

import rltrain
from rltrain.config import HealthConfig
from rltrain.env import TensorEnv
from rltrain.training.health_rules import RULES
from rltrain.training.health_signs import Facts
from rltrain.training.health_watch import HealthWatch

CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"
OPTIONS: dict[str, Any] = {
    "num_envs": 8,
    "num_threads": 1,
    "n_eval_episodes": 0,
    "save_freq": 0,
    "log_interval": 1,
    "trackers": ["csv"],
    "progress": False,
}
PPO: dict[str, Any] = {"n_steps": 32, "batch_size": 128, "n_epochs": 2}
OFF: dict[str, Any] = {"learning_starts": 32, "batch_size": 32, "train_freq": 4, "gradient_steps": 4}


@dataclass
class Clock:
    """Steps since the start, and the last action."""

    step: Tensor  # (N,) int64
    last: Tensor  # (N,) int64


class Plain(TensorEnv[Clock]):
    """Episodes of ten steps; what they pay is for subclasses."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)
    max_episode_steps = 10

    def reset(self, n: int, rng: torch.Generator | None) -> Clock:
        return Clock(torch.zeros(n, dtype=torch.int64), torch.full((n,), -1))

    def observe(self, state: Clock) -> Tensor:
        return torch.stack([state.step / 10.0, state.step * 0.0], 1)

    def pay(self, state: Clock, action: Tensor) -> Tensor:
        return torch.zeros(len(action))

    def step(self, state: Clock, action: Tensor, rng: torch.Generator | None) -> tuple[Clock, Tensor, Tensor]:
        after = Clock(state.step + 1, action)
        return after, self.pay(state, action), torch.zeros(len(action), dtype=torch.bool)


class Blind(Plain):
    """Always shows the same."""

    def observe(self, state: Clock) -> Tensor:
        return torch.full((len(state.step), 2), 0.5)


class Little(Plain):
    """Pays less than a network says before it has learned."""

    def pay(self, state: Clock, action: Tensor) -> Tensor:
        return torch.full((len(action),), 1e-6)


class Rising(Plain):
    """Pays more from step to step, over all episodes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.worth = 1.0

    def pay(self, state: Clock, action: Tensor) -> Tensor:
        self.worth *= 1.01
        return torch.rand(len(action)) * self.worth


class Falling(Rising):
    """Pays less from step to step, over all episodes."""

    def pay(self, state: Clock, action: Tensor) -> Tensor:
        return -super().pay(state, action)


class Slower(Plain):
    """Takes many times as long once it has been stepped a few hundred times, as one does that keeps all it has seen."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.steps = 0

    def pay(self, state: Clock, action: Tensor) -> Tensor:
        self.steps += 1
        time.sleep(0.0005 if self.steps < 300 else 0.02)
        return super().pay(state, action)


class Alternate(Plain):
    """Pays for another action than the last one, which it does not show: only chance does well."""

    def pay(self, state: Clock, action: Tensor) -> Tensor:
        return (action != state.last).to(torch.float32)

    def observe(self, state: Clock) -> Tensor:
        return torch.zeros(len(state.step), 2)


class Frozen(nn.Module):
    """Says the same of everything, and has no gradient."""

    def __init__(self, observation_space: spaces.Space, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        still = 0.0 * self.weight
        return still.expand(len(obs), self.outputs), still.expand(len(obs))


SICK: dict[str, tuple[str, Any, int, dict[str, Any], dict[str, Any]]] = {
    "entropy_collapse": ("ppo", Plain, 4_000, {**PPO, "learning_rate": 1.0}, {}),
    "kl_blow_up": ("ppo", CARTPOLE, 3_000, {**PPO, "learning_rate": 0.01, "clip_range": 5.0, "n_epochs": 20}, {}),
    "explained_variance": ("ppo", Falling, 8_000, {**PPO, "max_grad_norm": 1e9}, {}),
    "gradient_explosion": ("ppo", Rising, 15_000, {**PPO, "max_grad_norm": 1e9}, {}),
    "dead_gradient": ("ppo", CARTPOLE, 2_500, {**PPO, "policy_kwargs": {"network_class": Frozen}}, {}),
    "value_saturation": ("ppo", CARTPOLE, 5_000, {**PPO, "policy_kwargs": {"network_class": Frozen}}, {}),
    "q_overestimation": ("dqn", Little, 1_500, {**OFF, "learning_rate": 1e-6, "gamma": 0.5}, {}),
    "dead_critics": ("sac", PENDULUM, 1_500, {**OFF, "learning_rate": 1.0, "ent_coef": 0.1}, {}),
    "return_stuck": ("ppo", Plain, 6_000, PPO, {}),
    "evaluation_below_training": ("ppo", Alternate, 8_000, PPO, {"eval_freq": 1_000, "n_eval_episodes": 4}),
    "throughput_fall": ("ppo", Slower, 4_800, PPO, {"health": {"throughput_after": 0}}),
    "dead_normaliser": ("ppo", Blind, 2_500, {**PPO, "normalize_obs": True}, {}),
    "temperature": ("sac", PENDULUM, 1_500, {**OFF, "target_entropy": 50.0, "learning_rate": 0.1}, {}),
}


def findings(algo: str, env: Any, steps: int, agent: dict[str, Any], folder: Path, **options: Any) -> dict[str, str]:
    """What was said of the health of a run, by diagnosis."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rltrain.train(algo, env, total_timesteps=steps, agent=agent, run_dir=folder, **{**OPTIONS, **options})
    said = [str(each.message) for each in caught if str(each.message).startswith("Health at step")]
    names = [text.partition(": ")[2].partition(".")[0].replace(" ", "_") for text in said]
    assert len(names) == len(set(names)), "said twice"
    return dict(zip(names, said, strict=True))


@pytest.mark.parametrize("name", SICK)
def test_it_is_made_on_a_run_made_sick_for_it(name: str, tmp_path: Path) -> None:
    algo, env, steps, agent, options = SICK[name]
    said = findings(algo, env, steps, agent, tmp_path, **options)
    assert name in said, said
    assert ". Try " in said[name]


def test_every_diagnosis_is_shown() -> None:
    assert {rule.name for rule in RULES} == set(SICK)


@pytest.mark.parametrize("algo", ["ppo", "pqn"])
def test_a_sound_run_is_silent(algo: str, tmp_path: Path) -> None:
    """The shipped settings for CartPole; python -m benchmarks.health looks at all of them."""
    options: dict[str, Any] = {"log_interval": None, "num_envs": 64, "eval_freq": 10_000, "n_eval_episodes": 5}
    assert findings(algo, CARTPOLE, 30_000, {}, tmp_path, **options) == {}


def test_it_is_told_to_trackers_and_can_be_turned_off(tmp_path: Path) -> None:
    more: dict[str, Any] = {"trackers": ["tensorboard"], "health": {"dead_statistics": 0.9}}
    assert "dead_normaliser" in findings("ppo", Blind, 2_500, {**PPO, "normalize_obs": True}, tmp_path, **more)
    (run,) = tmp_path.glob("*/ppo_1")
    events = EventAccumulator(str(run)).Reload()
    (point,) = events.Scalars("health/dead_normaliser")
    (told,) = events.Tensors("health/dead_normaliser")
    assert (point.step, point.value) == (told.step, 1.0)
    text = told.tensor_proto.string_val[0].decode()
    assert text.startswith("**dead normaliser**")
    assert "Threshold: ours" in text
    more["health"] = {"enabled": False}
    assert findings("ppo", Blind, 2_500, {**PPO, "normalize_obs": True}, tmp_path, **more) == {}


def watch(**limits: Any) -> HealthWatch:
    return HealthWatch(HealthConfig(**limits), Facts(), total=1_000)


def test_speed_that_falls_is_told_once_it_has_settled() -> None:
    """Ten steps a second, and then three."""
    seen = watch()
    step, seconds = 0, 0.0
    said: list[tuple[int, str]] = []
    for point in range(120):
        seconds += 1.0 if point < 60 else 3.4
        step += 10
        said += [(point, each.rule.name) for each in seen.look({"train/n_updates": point}, step, seconds)]
    ((point, name),) = said
    assert name == "throughput_fall"
    assert 64 <= point < 90


def test_what_is_over_is_noted_and_not_said_again() -> None:
    seen = watch()
    told = {}
    for step, kl in enumerate([0.5] * 5 + [0.01] * 5 + [0.5] * 5):
        for each in seen.look({"train/approx_kl": kl}, step, 0.0):
            told[step] = each.rule.name, bool(each.what)
    assert told == {2: ("kl_blow_up", True), 5: ("kl_blow_up", False)}


@pytest.mark.parametrize(
    ("scores", "training", "speaks"),
    [
        ([0.0, 0.0, 0.1, 0.58, 0.87], [0.75, 0.26, 0.8, 0.94, 0.96], False),  # of PPO in MiniGrid-Unlock
        ([0.0, 0.0, 0.0, 0.0, 0.9], [0.1, 0.2, 0.35, 0.55, 0.95], False),  # likeliest actions that get stuck at first
        ([0.0, 0.01, 0.0, 0.02, 0.0], [0.3, 0.9, 0.92, 0.9, 0.91], True),
    ],
)
def test_evaluations_below_training_are_told_once_nothing_rises(
    scores: list[float], training: list[float], speaks: bool
) -> None:
    seen = watch()
    said: list[str] = []
    for step, (score, mean) in enumerate(zip(scores, training, strict=True)):
        seen.look({"rollout/ep_rew_mean": mean, "rollout/episodes": 100.0}, step, 0.0)
        said += [each.rule.name for each in seen.look({"eval/mean_reward": score}, step, 0.0)]
    assert said == (["evaluation_below_training"] if speaks else [])


@pytest.mark.parametrize("stop", [1, 2, 3, 6, 12])
def test_a_resumed_run_says_what_it_would_have_said(stop: int) -> None:
    metrics = [{"train/approx_kl": 0.5 if i > 3 else 0.0, "train/grad_norm": 10.0 ** max(0, i - 10)} for i in range(20)]

    def look(first: HealthWatch, indices: range) -> list[tuple[int, str]]:
        return [(i, each.rule.name) for i in indices for each in first.look(metrics[i], i, 0.0)]

    whole, begun, resumed = watch(), watch(), watch()
    expected = look(whole, range(20))
    before = look(begun, range(stop))
    resumed.load_state_dict(json.loads(json.dumps(begun.state_dict())))
    assert before + look(resumed, range(stop, 20)) == expected
    assert {name for _, name in expected} == {"kl_blow_up", "gradient_explosion"}


def test_numbers_that_are_missing_or_not_finite_say_nothing() -> None:
    seen = watch()
    for step in range(20):
        assert seen.look({"train/approx_kl": float("nan"), "train/grad_norm": float("inf")}, step, 0.0) == []
        assert seen.look({}, step, 0.0) == []
