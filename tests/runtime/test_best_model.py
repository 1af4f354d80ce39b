"""Which checkpoint is the best one, and that it stays, whatever comes later: returns are known beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rltrain
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints, step_of

pytestmark = pytest.mark.usefixtures("scripted_known")

PER_UPDATE = 8  # environment steps: 4 environments, 2 steps each
OPTIONS: dict[str, Any] = {
    "num_envs": 4,
    "num_threads": 1,
    "device": "cpu",
    "eval_freq": PER_UPDATE,
    "save_freq": PER_UPDATE,
    "n_eval_episodes": 4,
    "keep_checkpoints": 1,
    "trackers": [],
    "progress": False,
}


def train(folder: Path, plan: list[float], updates: int | None = None, **changes: Any) -> Path:
    """A run whose policy pays ``plan[k]`` in each of two steps after update k + 1."""
    steps = PER_UPDATE * (len(plan) if updates is None else updates)
    options = {**OPTIONS, "total_timesteps": steps, "agent": {"plan": plan}, "run_dir": folder, **changes}
    return rltrain.train("scripted", "test/Pay-v0", **options).run_dir


def assert_best(run: Path, update: int, pay: float) -> None:
    """The best checkpoint is that after an update; its policy is the one that there was then."""
    best = RunFolder(run).best()
    assert best is not None
    assert (best["step"], best["mean_reward"]) == (update * PER_UPDATE, 2 * pay)
    policy = rltrain.load(run, checkpoint="best")
    assert policy.step == update * PER_UPDATE
    assert policy.evaluate(4).mean_reward == 2 * pay


def saved(run: Path) -> list[int]:
    """The checkpoints, by the number of updates."""
    return [step_of(path) // PER_UPDATE for path in list_checkpoints(run / "checkpoints")]


@pytest.mark.parametrize(
    ("plan", "update"),
    [
        ([1.0, 2.0, 3.0], 3),
        ([3.0, 2.0, 1.0], 1),
        ([1.0, 5.0, 3.0, 5.0, 2.0], 2),  # of two that are as good, the first
        ([4.0, 4.0, 4.0], 1),
        ([-5.0, -3.0, -4.0], 2),  # none is above 0
        ([9.0, *[1.0] * 6], 1),  # kept, long after newer ones have been removed
    ],
    ids=str,
)
def test_the_best_is_the_first_with_the_highest_mean(plan: list[float], update: int, tmp_path: Path) -> None:
    run = train(tmp_path, plan)
    assert_best(run, update, plan[update - 1])
    assert saved(run) == sorted({update, len(plan)})
    assert rltrain.load(run).evaluate(4).mean_reward == 2 * plan[-1]


def test_a_resumed_run_still_knows_its_best(tmp_path: Path) -> None:
    """Neither what is worse nor what is only as good takes its place."""
    run = train(tmp_path, [1.0, 5.0, 3.0, 4.0, 5.0, 2.0], updates=3)
    rltrain.resume(run, total_timesteps=6 * PER_UPDATE, progress=False)
    assert_best(run, 2, 5.0)
    assert saved(run) == [2, 6]


def test_a_resumed_run_finds_a_better_one(tmp_path: Path) -> None:
    run = train(tmp_path, [1.0, 5.0, 3.0, 6.0, 2.0], updates=3)
    rltrain.resume(run, total_timesteps=5 * PER_UPDATE, progress=False)
    assert_best(run, 4, 6.0)
    assert saved(run) == [4, 5]


def test_a_resume_from_before_the_best_goes_back_to_the_best_of_then(tmp_path: Path) -> None:
    """Evaluated after 2 and 4 updates; from after 2 and from before on, the one after 4 has not happened."""
    run = train(tmp_path, [0.0, 3.0, 0.0, 5.0], eval_freq=2 * PER_UPDATE, keep_checkpoints=9)
    assert_best(run, 4, 5.0)
    checkpoints = list_checkpoints(run / "checkpoints")
    rltrain.resume(checkpoints[1], total_timesteps=3 * PER_UPDATE, progress=False)
    assert_best(run, 2, 3.0)
    assert saved(run) == [1, 2, 3]  # what came after is set aside
    rltrain.resume(checkpoints[0], total_timesteps=2 * PER_UPDATE - 1, progress=False)
    assert_best(run, 2, 3.0)  # found again


def test_a_resume_from_before_every_evaluation_has_no_best(tmp_path: Path) -> None:
    run = train(tmp_path, [0.0, 0.0, 3.0], eval_freq=3 * PER_UPDATE, keep_checkpoints=9)
    assert_best(run, 3, 3.0)
    first = list_checkpoints(run / "checkpoints")[0]
    rltrain.resume(first, total_timesteps=2 * PER_UPDATE, progress=False)
    assert RunFolder(run).best() is None


def test_a_best_that_was_removed_for_a_better_one_is_not_named(tmp_path: Path) -> None:
    """Evaluated after 4 and 8 updates; after 6 the best was that after 4, which made way for that after 8."""
    run = train(tmp_path, [3.0] * 4 + [5.0] * 4, eval_freq=4 * PER_UPDATE, keep_checkpoints=3)
    assert saved(run) == [6, 7, 8]
    rltrain.resume(list_checkpoints(run / "checkpoints")[0], total_timesteps=7 * PER_UPDATE, progress=False)
    assert RunFolder(run).best() is None
    rltrain.resume(run, total_timesteps=8 * PER_UPDATE, progress=False)
    assert_best(run, 8, 5.0)
