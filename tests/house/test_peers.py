"""The comparison with other libraries, run with a fake peer: the pages contain its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import benchmarks.__main__ as comparison
from benchmarks import measures, peers, report, store, venvs
from benchmarks.peers.__main__ import timed

FAKE = """
print("a library talks")

def stepping(how, num_envs, seed):
    return (lambda: num_envs) if num_envs < 100 else None

def training(how, point, seed):
    return (lambda: point["num_envs"] * point["agent"]["n_steps"]) if point["algo"] == "ppo" else None

def solving(how, seed):
    if how == "broken":
        raise RuntimeError("no pole here")
    settings = {"num_envs": 4, "more": {"x": 1}}
    return {"seconds": 1.0 + seed, "steps": 100 + seed, "solved": seed > 0, "settings": settings}
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "fake_peer.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    readme = tmp_path / "README.md"
    readme.write_text(report.README.read_text())
    for module, name, value in (
        (venvs, "FOLDER", tmp_path / "venvs"),
        (store, "RESULTS", tmp_path),
        (report, "PLOT", tmp_path / "peers.png"),
        (report, "PAGE", tmp_path / "page.md"),
        (report, "README", readme),
        (comparison, "TRIALS", tmp_path / "trials"),
        (comparison, "COMPILED", tmp_path / "trials" / "compiled"),
        (measures, "NUM_ENVS", (1, 64, 4_096)),
    ):
        monkeypatch.setattr(module, name, value)
    measured = {"stepping": ("",), "training": ("",), "growth": ("",), "solving": ("quick", "broken")}
    table = {
        "ours": peers.Peer("Fake", (), measured, module="fake_peer"),
        "absent": peers.Peer("Absent", ("no-such-library-at-all==1.0",), measured),
    }
    monkeypatch.setattr(peers, "PEERS", table)
    monkeypatch.setattr(report, "PEERS", table)
    monkeypatch.setattr(venvs, "PEERS", table)
    return tmp_path


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers answer in this process, at once."""

    def ask(row: dict[str, Any], measure: str, points: dict[str, Any], seed: int, *_: Any) -> dict[str, Any]:
        figures = {"steps_per_second": 2_000 + 1_000 * seed, "start_seconds": 0.25, "peak_mib": 100}
        answer = {"versions": {"python": "3"}, "import_seconds": 0.5, "points": dict.fromkeys(points, figures)}
        if measure == "solving" and row["how"] == "broken":
            raise ValueError("no pole here")
        solved = {"seconds": 1.5 + seed, "steps": 20_000, "solved": seed > 0, "settings": {"num_envs": 4}}
        return answer | (solved if measure == "solving" else {})

    monkeypatch.setattr(comparison, "ask", ask)
    monkeypatch.setattr(venvs, "install", lambda peer, folder, pip_args: "ERROR: there is none")


def test_a_turn_is_a_process_that_answers_what_it_was_asked(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--only", "ours", "--measure", "stepping", "solving", "--quick", "--cores", "1", "--repeats", "2"]
    comparison.main(arguments)
    figures = json.loads((places / "trials" / "peers.json").read_text())
    (row,) = figures["stepping"]
    assert len(row["turns"]) == 2
    assert row["turns"][0]["points"]["1"]["steps_per_second"] > 0
    assert row["turns"][0]["points"]["4,096"] is None
    assert row["turns"][0]["versions"]["rltrain"]
    assert [turn["seconds"] for turn in figures["solving"][0]["turns"]] == [1.0, 2.0]
    assert figures["solving"][0]["turns"][0]["peak_mib"] > 0
    assert figures["solving"][1]["turns"] == []
    assert figures["failed"] == {"Fake, broken, solving": "RuntimeError: no pole here"}
    page = capsys.readouterr().out
    assert "| Fake, quick | 1.50 (1.00 to 2.00) | 100 (100 to 101) | 1 of 2 |" in page
    assert "- Fake, quick: num_envs 4, x 1" in page
    assert "- Fake, broken, solving failed: `RuntimeError: no pole here`" in page
    assert not (places / "peers.json").exists()


def test_a_whole_run_writes_the_pages(places: Path, instant: None, capsys: pytest.CaptureFixture[str]) -> None:
    comparison.main(["--cores", "2"])
    figures = store.load("peers")
    assert figures["skipped"] == {"absent": "ERROR: there is none"}
    assert [(row["cores"], len(row["turns"])) for row in figures["training"]] == [(1, 3), (2, 3)]
    assert {row["how"]: len(row["turns"]) for row in figures["solving"]} == {"quick": 5, "broken": 0}
    page = (places / "page.md").read_text()
    assert (
        "| Fake | 3,000 (2,000 to 4,000) | 3,000 (2,000 to 4,000) | 3,000 (2,000 to 4,000) | 0.5 (0.5 to 0.5) |" in page
    )
    assert "- Absent could not be installed: `ERROR: there is none`" in page
    for point in (*measures.TRAINING, "| environments | 64 | 256 | 1,024 | 4,096 |", "| epochs | 1 | 4 | 8 |"):
        assert point in page
    assert (places / "peers.png").read_bytes()[1:4] == b"PNG"
    readme = (places / "README.md").read_text()
    assert "| Fake | 3,000 (2,000 to 4,000) |" in readme
    assert readme.count(report.BEGIN) == readme.count(report.END) == 1

    figures["measured"]["growth"]["minutes"] = 99.0
    store.save("peers", figures)
    comparison.main(["--page-only"])
    assert "in 99 minutes" in (places / "page.md").read_text()
    assert (places / "README.md").read_text() == readme


def test_a_measure_takes_the_place_of_its_older_figures_alone(places: Path, instant: None) -> None:
    comparison.main(["--cores", "1"])
    before = store.load("peers")
    comparison.main(["--cores", "1", "--measure", "stepping"])
    after = store.load("peers")
    assert after["training"] == before["training"]
    assert after["points"] == before["points"]
    assert after["measured"]["solving"] == before["measured"]["solving"]
    assert after["failed"] == before["failed"] == {"Fake, broken, solving": "no pole here"}


def test_another_processor_is_played_in_figures_of_its_own(places: Path, instant: None) -> None:
    comparison.main(["--cores", "1"])
    comparison.main(["--cores", "1", "--processor", "avx2"])
    played = store.load("peers-avx2")
    assert list(played["measured"]) == ["training"]
    assert played["measured"]["training"]["machine"]["played"] == "avx2"
    page, readme = (places / "page.md").read_text(), (places / "README.md").read_text()
    assert "## Training with AVX2 alone" in page
    assert page.count(f"### {next(iter(measures.TRAINING))}") == 2
    assert "that plays a processor with AVX2 alone" in " ".join(readme.split())
    comparison.main(["--page-only"])
    assert (places / "page.md").read_text() == page


def test_a_turn_is_told_which_processor_it_plays(places: Path) -> None:
    (places / "fake_peer.py").write_text(
        "import os\ndef stepping(how, num_envs, seed):\n"
        "    known = (os.environ.get('ATEN_CPU_CAPABILITY'), os.environ.get('XLA_FLAGS'))\n"
        "    assert known == ('avx2', '--xla_cpu_max_isa=AVX2')\n    return lambda: num_envs\n"
    )
    options = ["--only", "ours", "--measure", "stepping", "--quick", "--cores", "1", "--processor", "avx2"]
    comparison.main(options)
    figures = json.loads((places / "trials" / "peers.json").read_text())
    assert figures["failed"] == {}
    assert len(figures["stepping"][0]["turns"]) == 1


def test_what_cannot_be_installed_has_a_reason_and_is_not_tried_again(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, reason = venvs.python_of("absent")
    assert python == ""
    assert "no-such-library-at-all" in reason
    assert not (places / "venvs" / "absent").exists()
    monkeypatch.setattr(venvs, "install", lambda *_: "tried again")
    assert venvs.python_of("absent") == ("", reason)
    assert venvs.python_of("absent", renew=True) == ("", "tried again")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "  Traceback:\n  urllib.error.URLError: <no network>\n  note: x\nerror: subprocess-exited",
            "urllib.error.URLError: <no network>",
        ),
        ("WARNING: y\nERROR: No matching distribution found for x", "ERROR: No matching distribution found for x"),
        ("killed\n\n", "killed"),
        ("", "no output"),
    ],
)
def test_the_reason_is_the_line_that_says_most(output: str, reason: str) -> None:
    assert venvs.reason_in(output) == reason


def test_the_time_until_it_runs_as_usual_is_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    costs = iter([5.0, 1.0, 1.0, 1.0])

    def work() -> int:
        nonlocal clock
        clock += next(costs)
        return 10

    monkeypatch.setattr("time.perf_counter", lambda: clock)
    found = timed(lambda: work, 3.0)
    assert found is not None
    assert found["steps_per_second"] == 10
    assert found["start_seconds"] == 4.0
    assert timed(lambda: None, 1.0) is None


def test_every_peer_can_be_asked_for_what_it_says() -> None:
    module_of = Path(report.__file__).parent / "peers"
    for name, peer in PEERS.items():
        source = (module_of / f"{name}.py").read_text()
        for measure in peer.measures:
            assert f"def {'training' if measure == 'growth' else measure}(" in source, (name, measure)


PEERS = dict(peers.PEERS)


def test_pages_agree_with_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in the repository, if there are any yet."""
    monkeypatch.undo()
    figures = store.load("peers")
    if figures:
        text = report.README.read_text()
        played = store.load("peers-avx2")
        assert report.with_table(text, figures, played) == text
        assert report.page(figures, played) == report.PAGE.read_text()


def test_the_batched_cartpole_goes_on_in_the_step_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from benchmarks.peers.cartpole import BatchedCartPole

    env = BatchedCartPole(64, max_episode_steps=20)
    obs, _ = env.reset(seed=0)
    lengths = np.zeros(64, dtype=int)
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(60):
        obs, reward, terminated, truncated, info = env.step(rng.integers(0, 2, 64))
        lengths += 1
        done = terminated | truncated
        assert (reward == 1.0).all()
        assert not (terminated & truncated).any()
        assert (truncated <= (lengths == 20)).all()
        rows = np.flatnonzero(done)
        if len(rows):
            ends += len(rows)
            assert (info["ends"] == rows).all()
            assert (info["lengths"] == lengths[rows]).all()
            assert (np.abs(obs[rows]) <= 0.05).all()
            out = (np.abs(info["final_obs"][:, 0]) > 2.4) | (np.abs(info["final_obs"][:, 2]) > 0.2094)
            assert (out == terminated[rows]).all()
            lengths[rows] = 0
        assert (np.abs(obs[:, 2]) < 0.21).all()
    assert ends > 64
