"""What a dataset was made from and what was made of it: runs, checkpoints, exports, over several steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import rltrain
from rltrain.cli import main
from rltrain.data.dataset import Dataset
from rltrain.recording.recorder import record
from rltrain.runs.folder import RunFolder

LAKE = "rltrain/FrozenLake-v1"
SMALL: dict[str, Any] = {"device": "cpu", "n_eval_episodes": 1, "trackers": []}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset; a clone of it; a policy that starts from the clone, exported; and a run that knows nothing of it."""
    path = tmp_path_factory.mktemp("lineage")
    record(LAKE, path / "lake", policies=["baseline"], episodes=20)
    options = {**SMALL, "run_dir": str(path / "runs")}
    clone = rltrain.train("bc", LAKE, data=str(path / "lake"), total_timesteps=500, **options).run_dir
    ppo: dict[str, Any] = {"num_envs": 4, "agent": {"n_steps": 8}, "total_timesteps": 64, **options}
    later = rltrain.train("ppo", LAKE, init_from=str(clone), **ppo).run_dir
    rltrain.train("ppo", LAKE, **ppo)
    assert main(["export", str(later), "--to", "pt2", "--out", str(path / "runs/policy.pt2")]) == 0
    return path


def test_everything_that_has_a_dataset_is_named(made: Path, capsys: Any) -> None:
    assert main(["data", "lineage", str(made / "lake"), "--runs", str(made / "runs"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    named = [(each["kind"], Path(each["path"]).name) for each in found["descendants"]]
    assert [name for name in named if name[0] != "checkpoint"] == [
        ("run", "bc_1"),
        ("run", "ppo_1"),
        ("export", "policy.pt2"),
    ]
    assert sum(kind == "checkpoint" for kind, _ in named) >= 2
    exported = json.loads((made / "runs/policy.pt2.json").read_text())["lineage"]
    assert exported["learned_from"] == [Dataset.open(made / "lake").checksum]
    assert exported["run"].endswith("ppo_1")


def test_a_deletion_names_them_too(made: Path, tmp_path: Path, capsys: Any) -> None:
    copy = Path(shutil.copytree(made / "lake", tmp_path / "lake"))
    random = record(LAKE, tmp_path / "random", policies=["random", "baseline"], episodes=4)
    assert main(["data", "delete", str(random.path), "--where", "policy=random", "--runs", str(made / "runs")]) == 0
    assert "none below" in capsys.readouterr().out
    assert main(["data", "delete", str(copy), "--where", "policy=baseline", "--runs", str(made / "runs")]) == 4
    mixed = record(LAKE, tmp_path / "mixed", policies=["random", "baseline"], episodes=8)
    options = {**SMALL, "run_dir": str(tmp_path / "runs")}
    rltrain.train("bc", LAKE, data=str(mixed.path), total_timesteps=100, **options)
    capsys.readouterr()
    delete = ["data", "delete", str(mixed.path), "--where", "policy=random", "--runs", str(tmp_path / "runs")]
    assert main(delete) == 0
    said = capsys.readouterr().out
    assert "bc_1 was trained on it" in said
    assert "checkpoint" in said


def test_a_chain_is_kept_over_several_runs(made: Path) -> None:
    checksum = Dataset.open(made / "lake").checksum
    learned = {path.name: RunFolder(path).metadata().get("learned_from") for path in (made / "runs").glob("*/*_*")}
    assert learned == {"bc_1": None, "ppo_1": [checksum], "ppo_2": None}
