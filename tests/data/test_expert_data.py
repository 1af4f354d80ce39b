"""The .npz files of the old Stable-Baselines become datasets, and nothing in them is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rltrain
from rltrain.cli import main
from rltrain.data.dataset import Dataset
from rltrain.errors import DatasetError
from rltrain.sb3.expert_data import dataset_of_expert

CARTPOLE = "rltrain/CartPole-v1"


def expert(path: Path, **changes: Any) -> Path:
    """A file with two episodes, as ``generate_expert_traj`` writes it."""
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "obs": rng.normal(size=(5, 4)),
        "actions": rng.integers(2, size=(5, 1)),
        "rewards": np.ones(5),
        "episode_returns": np.array([3.0, 2.0]),
        "episode_starts": np.array([True, False, False, True, False]),
        **changes,
    }
    np.savez(path, **{name: column for name, column in columns.items() if column is not None})
    return path


def test_episodes_come_in_as_they_were_and_can_be_cloned(tmp_path: Path) -> None:
    file = expert(tmp_path / "expert.npz")
    assert main(["data", "import", str(file), "--env", CARTPOLE, "--out", str(tmp_path / "set")]) == 0
    dataset = Dataset.open(tmp_path / "set", verify=True)
    assert dataset.episodes.length.tolist() == [3, 2]
    assert dataset.episodes.returns.tolist() == [3.0, 2.0]
    assert not dataset.episodes.has_final.any()
    assert not np.stack(dataset.ends()).any()
    given = np.load(file)
    assert np.array_equal(dataset.read("obs", 0, 5), given["obs"].astype(np.float32))
    assert np.array_equal(dataset.read("action", 0, 5), given["actions"][:, 0])
    options: dict[str, Any] = {"agent": {"val_fraction": 0.0}, "n_eval_episodes": 1, "trackers": [], "device": "cpu"}
    rltrain.train("bc", CARTPOLE, data=str(dataset.path), total_timesteps=20, run_dir=str(tmp_path / "r"), **options)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"actions": None}, "it has no 'actions'"),
        ({"obs": np.array([None] * 5)}, "allow_pickle=False"),
        ({"obs": np.array(["a.png"] * 5)}, "holds no numbers"),
        ({"obs": np.zeros((5, 3))}, "has 3 numbers in a row"),
        ({"rewards": np.ones(4)}, "different numbers of rows"),
        ({"episode_starts": np.zeros(5, bool)}, "begins no episode"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(DatasetError, match=what):
        dataset_of_expert(expert(tmp_path / "expert.npz", **changes), tmp_path / "set", CARTPOLE)
    assert not (tmp_path / "set").exists()


def test_other_files_are_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "no.npz").write_bytes(b"no")
    (tmp_path / "link.npz").symlink_to(expert(tmp_path / "expert.npz"))
    for name in ("no.npz", "link.npz", "nowhere.npz"):
        words = ["data", "import", str(tmp_path / name), "--env", CARTPOLE, "--out", str(tmp_path / "set")]
        assert main(words) == 4
        assert "cannot be read" in capsys.readouterr().err
    assert main(["data", "import", str(tmp_path / "expert.npz"), "--out", str(tmp_path / "set")]) == 2
    assert "Give --env ENV." in capsys.readouterr().err
