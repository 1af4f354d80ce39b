"""The verbs that look at runs, compare them and remove them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from run_folders import CARTPOLE, PENDULUM, make_run

from rltrain.cli import main
from rltrain.runs.lock import FolderLock


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs the tests may have said how wide it is."""
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of two agents in two environments, one of them failed, one killed and one broken."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs")
    for seed, score in enumerate((100.0, 90.0, 120.0)):
        make_run(folder / "cart" / f"ppo_{seed + 1}", seed=seed, score=score)
    for seed, score in enumerate((100.0, 200.0, 300.0)):
        options = {"agent": {"gamma": 0.9}}
        make_run(folder / "cart" / f"ppo_{seed + 10}", seed=seed, score=score, options=options)
    failed = {"status": "failed", "error": "RunError: \x1b[2Jno"}
    make_run(folder / "pendulum" / "sac_1", "sac", PENDULUM, metadata=failed, n=7)
    make_run(folder / "pendulum" / "ppo_1", "ppo", PENDULUM, metadata={"status": "running"})
    (make_run(folder / "pendulum" / "ppo_2") / "config.yaml").write_text("- a")
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert main(list(words)) == code
    text = capsys.readouterr().out
    return json.loads(text) if "--json" in words else text


def names(text: str) -> list[str]:
    last = [line.split()[-1] for line in text.splitlines() if line.strip()]
    return [word.removeprefix("runs/") for word in last if word.startswith("runs/")]


def test_runs_are_listed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "runs")
    assert names(text) == [
        *(f"cart/ppo_{i}" for i in (1, 2, 3, 10, 11, 12)),
        *("pendulum/ppo_1", "pendulum/ppo_2", "pendulum/sac_1"),
    ]
    lines = {line.split()[-1]: line.split() for line in text.splitlines() if line}
    assert lines["runs/cart/ppo_2"] == ["completed", "ppo", CARTPOLE, "1", "90.0", "20,000", "40.0s", "runs/cart/ppo_2"]
    assert lines["runs/pendulum/sac_1"][:6] == ["failed", "sac", PENDULUM, "0", "~70.0", "7,000"]
    assert lines["runs/pendulum/ppo_1"][0] == "killed"
    assert "broken: 'runs/pendulum/ppo_2/config.yaml' holds no settings." in text


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--status", "failed"], ["pendulum/sac_1"]),
        (["--agent", "sac"], ["pendulum/sac_1"]),
        (["--env", "PENDUL", "--seed", "0"], ["pendulum/ppo_1", "pendulum/sac_1"]),
        (["--where", "gamma=0.9", "agent.n-steps=30"], ["cart/ppo_10", "cart/ppo_11", "cart/ppo_12"]),
        (["--where", "gamma=0.9", "--sort", "score"], ["cart/ppo_12", "cart/ppo_11", "cart/ppo_10"]),
        (["--where", "gamma=0.9", "--sort", "score", "--reverse"], ["cart/ppo_10", "cart/ppo_11", "cart/ppo_12"]),
        (["--agent", "nobody"], []),
        (["runs/cart/ppo_3"], ["cart/ppo_3"]),
    ],
)
def test_runs_are_filtered_and_sorted(
    runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], found: list[str]
) -> None:
    assert names(said(capsys, "runs", *words)) == found
    listed = said(capsys, "runs", *words, "--json")["runs"]
    assert [each["run"] for each in listed] == [f"runs/{each}" for each in found]


def test_a_list_as_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = said(capsys, "runs", "--sort", "time", "--json")["runs"]
    by_name = {each["run"]: each for each in listed}
    assert [each["seconds"] for each in listed][-2:] == [40.0, 14.0]
    assert (by_name["runs/cart/ppo_1"]["score"], by_name["runs/cart/ppo_1"]["score_of"]) == (100, "evaluation")
    assert (by_name["runs/pendulum/sac_1"]["score"], by_name["runs/pendulum/sac_1"]["score_of"]) == (70, "training")
    assert "holds no settings" in by_name["runs/pendulum/ppo_2"]["problem"]


def test_a_list_fits_a_narrow_terminal(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = said(capsys, "runs", "runs/cart")
    monkeypatch.setenv("COLUMNS", "80")
    narrow = said(capsys, "runs", "runs/cart")
    assert max(map(len, narrow.splitlines())) <= 80
    assert CARTPOLE in wide
    assert CARTPOLE not in narrow
    assert names(narrow) == names(wide)


def test_a_run_that_is_trained_is_running(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = FolderLock(runs / "pendulum" / "ppo_1")
    lock.acquire()
    try:
        assert names(said(capsys, "runs", "--status", "running")) == ["pendulum/ppo_1"]
    finally:
        lock.release()
    assert names(said(capsys, "runs", "--status", "running")) == []


def test_an_outcome_from_before_a_resume_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "ppo_1", n=9, score=400.0, metadata={"status": "running", "steps": 5_000, "seconds": 10.0})
    (listed,) = said(capsys, "runs", str(tmp_path), "--json")["runs"]
    assert (listed["score"], listed["score_of"], listed["steps"], listed["seconds"]) == (90, "training", 9_000, 18)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs", "nowhere"], "There is no folder 'nowhere'."),
        (["runs", "."], ""),
        (["runs", "--sort", "scor"], "Did you mean 'score'?"),
        (["runs", "--where", "gamma"], "'gamma' names no setting and its value."),
        (["show", "nowhere"], "There is no run folder 'nowhere'."),
        (["show", "runs/cart"], "Did you mean 'runs/cart/ppo_3'?"),
        (["show", "runs/pendulum/ppo_2"], "holds no settings"),
        (["compare", "runs/cart/ppo_1", "runs/cart"], "'ppo_1' is on both sides."),
        (["rm", "runs/cart"], "'runs/cart' is not a run folder: it has no config.yaml."),
        (["rm", "runs/cart/ppo_1/checkpoints", "--yes"], "is not a run folder"),
        (["rm", "runs/cart/ppo_1"], "Say --yes."),
    ],
)
def test_mistakes(runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    code = main(words)
    assert (code > 0) is bool(message)
    assert message.replace("'ppo_1'", f"'{Path('runs/cart/ppo_1').resolve()}'") in capsys.readouterr().err
    assert (runs / "cart" / "ppo_1").exists()


def test_show(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "show", "runs/cart/ppo_10")
    for part in ("100.0 ± 2.0", "20,000", "500 steps a second", "agent.gamma", "0.9", "rltrain train ppo", "0" * 40):
        assert part in text
    assert "vf_coef" not in text  # the default
    assert "vf_coef" in said(capsys, "show", "runs/cart/ppo_10", "--all")
    text = said(capsys, "show", "runs/pendulum/sac_1")
    assert "failed: RunError" in text
    assert "\x1b" not in text
    facts = said(capsys, "show", "runs/cart/ppo_10", "--json")
    assert (facts["settings"]["agent.gamma"], facts["evaluation"]["episodes"], facts["checkpoints"]) == (0.9, 16, [])
    assert "rltrain resume runs/pendulum/ppo_1" in said(capsys, "show", "runs/pendulum/ppo_1")


def test_two_runs_are_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "compare", "runs/cart/ppo_1", "runs/cart/ppo_12")
    lines = [line.split() for line in text.splitlines()]
    assert ["agent.gamma", "0.98", "0.9"] in lines
    assert [CARTPOLE, "100.0", "300.0"] in lines
    assert "B - A: +200.0, 95% interval +198.6 to +201.4" in text  # 1.96 * sqrt(2 * 2**2 / 15) = 1.43
    assert "A single run says nothing of other seeds" in text
    assert "No setting differs" in said(capsys, "compare", "runs/cart/ppo_1", "runs/cart/ppo_2")
    assert "There are no scores of both" in said(capsys, "compare", "runs/cart/ppo_1", "runs/pendulum/sac_1")


def test_groups_are_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "compare", "runs/cart/ppo_1", "runs/cart/ppo_12", "--seeds"
    facts = said(capsys, *words, "--json")
    assert [len(side["runs"]) for side in facts["sides"]] == [3, 3]
    assert facts["settings"] == {"agent.gamma": ["0.98", "0.9"]}
    # 200 and 300 are above all of 90, 100 and 120; 100 is above 90, and as high as 100.
    assert facts["probability_of_improvement"] == pytest.approx((6 + 1 + 0.5) / 9)
    assert sorted(facts["scores"][CARTPOLE][0]["scores"]) == [90, 100, 120]
    assert "with probability 83%" in said(capsys, *words)


def test_runs_are_removed(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("kept")
    run = runs / "cart" / "ppo_1"
    (run / "link").symlink_to(outside)
    (run / "checkpoints" / "link").symlink_to(outside)
    (run.parent / ".removed-0123456789abcdef" / "checkpoints").mkdir(parents=True)  # of a process that was killed
    text = said(capsys, "rm", str(run), "runs/cart/ppo_2", "--yes")
    assert text.count("removed") == 2
    assert sorted(path.name for path in (runs / "cart").iterdir()) == ["ppo_10", "ppo_11", "ppo_12", "ppo_3"]
    assert (outside / "kept.txt").read_text() == "kept"


def test_what_is_no_run_for_certain_stays(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cart = runs / "cart"
    (cart / "link").symlink_to(cart.resolve() / "ppo_1")
    (cart / "ppo_2" / "metadata.json").write_text("{}")
    (cart / "ppo_3" / "metadata.json").unlink()
    (cart / "ppo_10" / "config.yaml").rename(cart / "elsewhere.yaml")
    (cart / "ppo_10" / "config.yaml").symlink_to(cart.resolve() / "elsewhere.yaml")
    shutil.copytree(cart / "ppo_12", cart / "ppo_11" / "inside")
    for name, why in {
        "link": "is a symbolic link",
        "ppo_2": "no run folder for certain",
        "ppo_3": "no run folder for certain",
        "ppo_10": "no run folder for certain",
        "ppo_11": "There is another run in",
    }.items():
        assert main(["rm", str(cart / "ppo_12"), str(cart / name), "--yes"]) == 4
        assert why in capsys.readouterr().err
        assert (cart / name).exists()
        assert (cart / "ppo_12").exists()  # all are looked at before one is removed


def test_a_run_that_is_trained_is_not_removed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs / "cart" / "ppo_1"
    code = (
        "import sys; from pathlib import Path; from rltrain.runs.lock import FolderLock\n"
        f"lock = FolderLock(Path({str(run)!r})); lock.acquire(); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        assert main(["rm", str(run), "--yes"]) == 3
        assert "in use by another process" in capsys.readouterr().err
        other.communicate()
    assert run.exists()
    assert main(["rm", str(run), "--yes"]) == 0


def test_the_answer_counts(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal:
        def __init__(self, answer: str) -> None:
            self.answer = answer

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return self.answer

    for answer, gone in (("\n", False), ("no\n", False), ("", False), ("y\n", True)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert main(["rm", "runs/cart/ppo_1"]) == (0 if gone else 1)
        assert "Remove it for good? [y/N]" in capsys.readouterr().err
        assert (runs / "cart" / "ppo_1").exists() is not gone
