"""Folders of preferences that somebody else made, or took something out of: nothing else is written or removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made_preferences import CARTPOLE, asked

from rltrain.cli import main
from rltrain.errors import CheckpointError, RLTrainError, RunError
from rltrain.preferences.asking import ask
from rltrain.preferences.fitting import fit_preferences
from rltrain.preferences.folder import Preferences
from rltrain.preferences.label_studio import write_project
from rltrain.preferences.oracle import label_by_oracle
from rltrain.rewards.ensemble import EnsembleConfig
from rltrain.rewards.files import load_reward
from tests.forging import forge
from tests.torture.failing_disk import FailingDisk

QUICK = EnsembleConfig(members=2, hidden=[8], epochs=2)


@pytest.fixture
def prefs(tmp_path: Path) -> Preferences:
    found = asked(tmp_path / "prefs", pairs=8, segment=5, episodes=6)
    label_by_oracle(found)
    return found


@pytest.mark.parametrize("name", ["rounds", "rounds/0001", "rounds/0002", "models", "models/0001", "films", "runs"])
def test_links_in_them_are_not_followed(name: str, prefs: Preferences, tmp_path: Path, capsys) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(prefs.path / "rounds" / "0001", outside)
    before = sorted((path, path.stat().st_mtime_ns) for path in outside.rglob("*"))
    link = prefs.path / name
    link.parent.mkdir(exist_ok=True)
    shutil.rmtree(link, ignore_errors=True)
    link.symlink_to(outside)
    small = ["--pairs", "2", "--episodes", "4", "--num-envs", "2", "--device", "cpu"]
    for line in (
        ["fit", str(prefs.path), "--epochs", "1"],
        ["ask", str(prefs.path), CARTPOLE, *small],
        ["show", str(prefs.path), "--out", "none"],
        ["export", str(prefs.path), "--to", "label-studio", "--out", str(tmp_path / "studio")],
    ):
        assert main(["preferences", *line]) == 4
        said = capsys.readouterr().err
        assert f"'{link}' cannot be used: it is a symbolic link, not a folder" in said
    assert sorted((path, path.stat().st_mtime_ns) for path in outside.rglob("*")) == before


def test_a_lock_that_is_a_link_is_not_emptied(prefs: Preferences, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (prefs.path / ".lock").unlink()
    (prefs.path / ".lock").symlink_to(tmp_path / "file")
    with pytest.raises(RunError, match="cannot be locked"):
        fit_preferences(prefs, QUICK)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_left_of_rounds_and_models_is_never_replaced(prefs: Preferences) -> None:
    fit_preferences(prefs, QUICK)
    ask(prefs.path, CARTPOLE, pairs=4, episodes=4, num_envs=2)
    label_by_oracle(prefs)
    second = fit_preferences(prefs, QUICK)
    kept = prefs.rounds()[1].dataset.checksum, load_reward(second)[1]["checksum"]
    shutil.rmtree(prefs.path / "rounds" / "0001")
    shutil.rmtree(prefs.path / "models" / "0001")
    assert ask(prefs.path, CARTPOLE, pairs=4, episodes=4, num_envs=2).number == 3
    label_by_oracle(prefs)
    assert fit_preferences(prefs, QUICK).name == "0003"
    assert (prefs.rounds()[0].dataset.checksum, load_reward(second)[1]["checksum"]) == kept


def test_odd_names_are_no_rounds(prefs: Preferences) -> None:
    for name in ("1\N{SUPERSCRIPT TWO}", "0x", "1 ", "00000000000000000000001"):
        (prefs.path / "rounds" / name).mkdir()
        shutil.copy(prefs.path / "rounds" / "0001" / "pairs.json", prefs.path / "rounds" / name)
    assert [each.number for each in prefs.rounds()] == [1]


def test_a_project_of_label_studio_is_there_whole_or_not_at_all(prefs: Preferences, tmp_path: Path) -> None:
    out = tmp_path / "studio" / "project"
    out.parent.mkdir()
    shutil.rmtree(prefs.path / "films", ignore_errors=True)
    with FailingDisk(out.parent) as disk:
        write_project(prefs, prefs.questions()[:1], out, question="?")
    shutil.rmtree(out)
    for number in range(len(disk.done)):
        with FailingDisk(out.parent, lambda n, number=number: n == number, 28):
            said = failed(lambda: write_project(prefs, prefs.questions()[:1], out, question="?"))
        assert said is None or "No space left on device" in said
        assert [path.name for path in out.parent.iterdir()] == ([] if said else ["project"])
        shutil.rmtree(out, ignore_errors=True)


def failed(function: Callable[[], object]) -> str | None:
    """What a function says if it fails by an error of ours."""
    try:
        function()
    except RLTrainError as error:
        return error.cause
    return None


def test_a_reward_model_whose_loss_is_not_finite_is_not_kept(prefs: Preferences, capsys) -> None:
    assert main(["preferences", "fit", str(prefs.path), "--learning-rate", "1e30"]) == 3
    said = capsys.readouterr().err
    assert "The loss of the reward model is not finite after " in said
    assert "--learning-rate" in said
    assert prefs.models() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", {"members": 64, "hidden": [4096] * 60}),
        ("held_out", "x"),
        ("labellers", [[]]),
        ("epochs", "5"),
        ("fitted", {"answers": 1}),
    ],
)
def test_a_forged_reward_model_is_refused_before_memory_is_taken(
    name: str, value: object, prefs: Preferences, tmp_path: Path, capsys
) -> None:
    path = fit_preferences(prefs, QUICK)
    forge(path, "reward.json", (name,), value)
    for out in ("none", str(tmp_path / "made.png")):
        assert main(["preferences", "show", str(prefs.path), "--out", out]) in (0, 4)
        assert "--debug" not in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="cannot be used: "):
        load_reward(path)
    again = fit_preferences(prefs, QUICK)  # as the error says
    assert again.name == "0002"
    load_reward(again)
