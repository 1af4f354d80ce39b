"""Whole runs of agents that somebody else wrote on the off-policy base: exact after a stop, on one rank and on two."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import off_policy_agents
from several import Several, command
from test_ranks import no_process_is_left, outputs, state_of, until  # noqa: F401
from test_resume import PENDULUM, assert_same_state, flags, scalars

import rltrain
from rltrain.callbacks import Callback
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints

OPTIONS: dict[str, Any] = {
    "total_timesteps": 1_600,
    "num_envs": 8,
    "num_threads": 1,
    "save_freq": 300,
    "keep_checkpoints": 20,
    "n_eval_episodes": 2,
    "agent": {"buffer_size": 1_000, "batch_size": 32, "learning_rate": "lin_0.001"},
}


def known(words: list[str], output: Path) -> None:
    """A command line in a process that knows the agents."""
    off_policy_agents.register()
    command(words, output)


def train(run_dir: Path) -> tuple[Several, Path]:
    """Starts two ranks; gives them and their run folder."""
    run_dir.mkdir()
    words = ["train", "dpg", PENDULUM, *flags({**OPTIONS, "run_dir": run_dir}), "--no-progress"]
    return Several(known, words, run_dir / "output"), run_dir / PENDULUM.replace("/", "-") / "dpg_1"


def test_two_ranks_go_on_bit_for_bit_with_real_numbers_for_actions(tmp_path: Path) -> None:
    """Every checkpoint of two ranks also tells that both have come to the same policy."""
    ranks, straight = train(tmp_path / "straight")
    assert ranks.codes() == [0, 0], outputs(tmp_path / "straight")
    ranks, run = train(tmp_path / "stopped")
    until(ranks, lambda: list_checkpoints(run / "checkpoints"))
    os.kill(ranks.ranks[1].pid or 0, signal.SIGTERM)
    assert ranks.codes() == [128 + signal.SIGTERM] * 2
    resumed = Several(known, ["resume", str(run), "--no-progress"], tmp_path / "stopped" / "output")
    assert resumed.codes() == [0, 0], outputs(tmp_path / "stopped")
    assert_same_state(run, straight)
    state, expected = state_of(run, 1), state_of(straight, 1)
    assert [key for key in expected if state[key] != expected[key]] == []
    assert scalars(run) == scalars(straight)
    first = state_of(run, 0)
    for shared in ("agent.policy_optimizer.exp_avg", "agent.critic_optimizer.exp_avg", "agent.n_updates"):
        assert state[shared] == first[shared], shared
    for own in ("agent.rng", "agent.replay.ring.action", "env.rng"):
        assert state[own] != first[own], own
    assert len(np.frombuffer(state["agent.replay.ring.action"][2], np.float32)) == 4 * (500 // 4 + 1)  # half of 1,000


class StopAt(Callback):
    """Ends a run early."""

    def on_update(self, trainer: Any, metrics: Any) -> None:
        if trainer.global_step >= 700:
            trainer.stop()


def test_one_process_goes_on_bit_for_bit(tmp_path: Path, clean_registries: None) -> None:
    off_policy_agents.register()

    def start(run_dir: Path, *callbacks: Callback) -> Path:
        options = {**OPTIONS, "run_dir": run_dir, "callbacks": callbacks, "progress": False}
        return rltrain.train("dpg", PENDULUM, **options).run_dir

    straight, run = start(tmp_path / "straight"), start(tmp_path / "stopped", StopAt())
    assert RunFolder(run).metadata()["steps"] < 800
    rltrain.resume(run, total_timesteps=1_600, progress=False)
    assert_same_state(run, straight)
    action, _ = rltrain.load(run).predict(np.zeros(3, np.float32))
    assert action.shape == (1,)
    assert action.dtype == np.float32
