"""Histograms, texts, numbers of the environment, and the time beside training: what a run shows beside its curves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from countdown import Countdown, CountdownState
from gymnasium import spaces
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import rltrain
from rltrain.check.op_counter import waits_of
from rltrain.config import AgentConfig
from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.plugins import resolve
from rltrain.registry import agent_config_class, agent_spec
from rltrain.trackers.csv import read_progress
from rltrain.training.distributions import MOST, Distributions, sample
from rltrain.training.metrics import fetch
from rltrain.training.pauses import Pauses

CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"
ENVS = {"ppo": PENDULUM, "sac": PENDULUM, "dqn": CARTPOLE, "pqn": CARTPOLE}
ROLLOUTS = {"n_steps": 16, "batch_size": 32, "n_epochs": 1}
AGENTS: dict[str, dict[str, Any]] = {
    "ppo": ROLLOUTS,
    "pqn": ROLLOUTS,
    "dqn": {"learning_starts": 32, "batch_size": 32},
    "sac": {"learning_starts": 32, "batch_size": 32},
}
OPTIONS: dict[str, Any] = {
    "total_timesteps": 1_024,
    "num_envs": 4,
    "num_threads": 1,
    "save_freq": 0,
    "log_interval": 1,
    "n_eval_episodes": 0,
    "progress": False,
}


def train(algo: str, env: Any, folder: Path, **more: Any) -> rltrain.RunResult:
    return rltrain.train(algo, env, agent=AGENTS[algo], run_dir=folder, **{**OPTIONS, **more})


def events(run: rltrain.RunResult) -> EventAccumulator:
    sizes = {"histograms": 0, "tensors": 0}
    return EventAccumulator(str(run.run_dir), size_guidance=sizes).Reload()


@pytest.mark.parametrize("algo", ENVS)
def test_histograms_come_at_a_low_rate(algo: str, tmp_path: Path) -> None:
    shown = events(train(algo, ENVS[algo], tmp_path, trackers=["tensorboard"], histogram_freq=512))
    tags = shown.Tags()["histograms"]
    kinds = {tag.partition("/")[0] for tag in tags}
    assert kinds == {"actions", "parameters", "gradients"} | ({"advantages"} if algo == "ppo" else set())
    assert len(tags) > 10
    for tag in tags:
        assert [event.step for event in shown.Histograms(tag)] == [512, 1_024], tag
    (actions,) = {tag for tag in tags if tag.startswith("actions")}
    low, high = (0, 1) if ENVS[algo] == CARTPOLE else (-2, 2)
    first = shown.Histograms(actions)[0].histogram_value
    assert low <= first.min <= first.max <= high


def test_histograms_can_be_left_out_and_cost_nothing_without_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        events(train("ppo", PENDULUM, tmp_path, trackers=["tensorboard"], histogram_freq=0)).Tags()["histograms"] == []
    )

    def never(agent: Any) -> Any:
        raise AssertionError("taken for nobody")

    monkeypatch.setattr("rltrain.training.state.Distributions", never)
    train("ppo", PENDULUM, tmp_path, trackers=["csv"])


def test_a_sample_is_spread_evenly_and_bounded() -> None:
    assert sample(torch.arange(10)).tolist() == list(range(10))
    large = sample(torch.arange(1_000_000).view(1_000, 1_000))
    assert MOST / 2 < len(large) <= MOST
    assert (float(large[0]), float(large[-1])) == pytest.approx((0, 1_000_000), abs=500)


@pytest.mark.parametrize("algo", ENVS)
def test_what_is_looked_at_in_log_points_does_not_wait_for_the_device(algo: str) -> None:
    vec = make_vec(ENVS[algo], 4)
    config: AgentConfig = agent_config_class(algo)(**AGENTS[algo])
    make = resolve(agent_spec(algo).entry_point)
    agent = make(vec.single_observation_space, vec.single_action_space, 4, config, seed=0)
    obs, state = vec.reset(0), None
    assert agent.signs() == {} or algo in ("dqn", "sac")
    for _ in range(40):
        for _ in range(agent.horizon):
            out = agent.act(obs, state)
            step = vec.step(out.action)
            agent.record(out, step)
            obs = step.obs
        agent.learn()
    assert waits_of(agent.signs) == []
    assert waits_of(lambda: Distributions(agent)) == []
    signs = fetch(agent.signs())
    assert signs["train/value_spread"] > 0
    if algo != "ppo":
        assert signs["rollout/reward_max"] > 0


def test_seeds_of_a_batch_show_what_they_would_show_alone(tmp_path: Path) -> None:
    agent = {**ROLLOUTS, "batch_size": 64}
    more: dict[str, Any] = {**OPTIONS, "trackers": ["tensorboard", "csv"], "histogram_freq": 512, "agent": agent}
    together = rltrain.train_seeds("ppo", CARTPOLE, 2, run_dir=tmp_path / "two", **more)
    alone = rltrain.train("ppo", CARTPOLE, seed=1, run_dir=tmp_path / "one", **more)
    ours = together[1]
    assert isinstance(ours, rltrain.RunResult)
    assert events(ours).Tags()["histograms"] == events(alone).Tags()["histograms"]
    spreads = [read_progress(run.run_dir / "progress.csv")["train/value_spread"] for run in (ours, alone)]
    assert spreads[0] == pytest.approx(spreads[1], rel=1e-2)


def test_texts_tell_how_each_session_was_started(tmp_path: Path) -> None:
    run = train("ppo", PENDULUM, tmp_path, trackers=["tensorboard"])
    rltrain.resume(run.run_dir, total_timesteps=2_048, progress=False)
    shown = events(run)
    sessions = {event.step: event.tensor_proto.string_val[0].decode() for event in shown.Tensors("session")}
    assert list(sessions) == [0, 1_024]
    assert "| session | new run |" in sessions[0]
    assert "resumed at step 1,024" in sessions[1_024]
    assert all("| command |" in text and "torch" in text and "commit of rltrain" in text for text in sessions.values())
    (card,) = shown.Tensors("environment")
    text = card.tensor_proto.string_val[0].decode()
    for part in ("rltrain/Pendulum-v1", "`Box(-2.0, 2.0, (1,), float32)`", "| time limit | 200 |", "| Source |"):
        assert part in text
    (layout,) = shown.Tensors("custom_scalars__config__")
    assert b"Health of ppo" in layout.tensor_proto.string_val[0]


class Telling(Countdown):
    """Gives numbers in info."""

    def info(self, state: CountdownState) -> dict[str, Tensor]:
        return {**super().info(state), "seven": torch.full_like(state.left, 7)}


class Host(gymnasium.Env[Any, Any]):
    """Gives a number in every step, one in the last, and what is no number."""

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        last = {"at_end": np.float64(5.0)} if self.steps == 8 else {}
        return np.zeros(1, np.float32), 1.0, self.steps == 8, False, {"count": self.steps, "word": "x", **last}


def test_numbers_of_a_tensor_environment(tmp_path: Path) -> None:
    run = train("ppo", Telling, tmp_path, trackers=["csv"], log_info=["seven"])
    assert set(read_progress(run.run_dir / "progress.csv")["info/seven"]) == {7.0}
    with pytest.raises(ConfigError, match=r"has no 'sevn'. Did you mean 'seven'"):
        train("ppo", Telling, tmp_path / "none", log_info=["sevn"])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.filterwarnings("ignore:.*states no time limit", "ignore:The episodes of")
def test_numbers_of_an_adapted_environment(how: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"trackers": ["csv"], "env_options": {"vectorization": how}}
    names = ["count", "at_end", "word"]
    with pytest.warns(UserWarning, match="--log-info word: no environment gave a number"):
        run = train("ppo", Host, tmp_path, log_info=names, **options)
    table = read_progress(run.run_dir / "progress.csv")
    assert set(table["info/count"]) == {4.5}
    assert set(table["info/at_end"]) == {5.0}
    assert "info/word" not in table


def test_several_pauses_count_once() -> None:
    pauses, other = Pauses(), Pauses()
    other.share(pauses)
    with pauses.of("eval"):
        time.sleep(0.02)
        with pauses.of("save"):
            time.sleep(0.05)
    with other.of("video"):
        time.sleep(0.01)
    assert 0.05 <= pauses.seconds["save"] < 0.2
    assert 0.02 <= pauses.seconds["eval"] < 0.2
    assert pauses.session == pytest.approx(sum(pauses.seconds.values()) + other.seconds["video"])


def test_speed_leaves_out_evaluations(tmp_path: Path) -> None:
    class Slow(Countdown):
        """Takes its time when it is evaluated, which makes more environments than training has."""

        def step(self, state: CountdownState, action: Tensor, rng: Any) -> tuple[CountdownState, Tensor, Tensor]:
            if len(action) > 4:
                time.sleep(0.02)
            return super().step(state, action, rng)

    run = train("ppo", Slow, tmp_path, trackers=["csv"], eval_freq=128, n_eval_episodes=8)
    table = read_progress(run.run_dir / "progress.csv")
    beside = np.nanmax(table["time/eval_seconds"])
    assert beside > 0.5
    seconds = np.nanmax(table["time/time_elapsed"])
    fps = [value for value in table["time/fps"] if value == value][-1]
    assert fps > 1.5 * run.steps / seconds
