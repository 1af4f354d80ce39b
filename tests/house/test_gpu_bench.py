"""``python -m benchmarks.gpu``: in miniature on the CPU, and what it does with rows that fail or do not fit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

import benchmarks.gpu.__main__ as command
from benchmarks.gpu import correctness, environments, expected, launches, wheels
from benchmarks.gpu.report import Report, table
from benchmarks.gpu.rows import CARTPOLE, Row, rows, training
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.worker import Worker
from rltrain.registry import resolve

ROOT = Path(__file__).parents[2]
MINI = Setup("cpu", mini=True)
SECONDS = 600  # half a minute, where nothing else is going on


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], float]:
    """What the whole command prints and keeps, and how long it took."""
    out = tmp_path_factory.mktemp("gpu")
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--mini", "--seconds", str(SECONDS), "--out", out],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads((out / "gpu.json").read_text()), time.perf_counter() - begin


def test_in_miniature_all_rows_that_need_no_gpu_are_measured(tried: tuple[str, dict[str, Any], float]) -> None:
    _, figures, seconds = tried
    assert seconds < SECONDS
    assert figures["device"] == "cpu"
    assert figures["torch"] == torch.__version__
    found = {row["name"]: row for row in figures["rows"]}
    assert list(found) == [row.name for row in rows(mini=True)]
    for row in rows(mini=True):
        result = found[row.name]
        if "cuda" in row.needs:
            assert result == {"name": row.name, "skipped": "it needs a GPU with CUDA"}
        elif "jax" in row.needs and figures["jax"] is None:
            assert result == {"name": row.name, "skipped": "JAX is not installed"}
        elif row.kind.startswith(("train", "step", "jax")):
            assert result["steps_per_s"] > 0
        else:
            assert result["passed"] is True
        if row.kind.startswith("train") and "skipped" not in result:
            assert result["projected_steps_per_s"] > result["settings"]["num_envs"]
            assert result["collect_ms"] > 0 < result["learn_ms"]


def test_the_table_comes_last(tried: tuple[str, dict[str, Any], float]) -> None:
    printed, figures, _ = tried
    assert table(figures) in printed.split("\n\n", 1)[1]
    for row in figures["rows"]:
        start = "- {}: " if "skipped" in row else "| {} |"
        assert sum(line.startswith(start.format(row["name"])) for line in printed.splitlines()) == 1


def test_nothing_is_imported_that_the_offline_machine_would_not_have(tried: tuple[str, dict[str, Any], float]) -> None:
    there = {"rltrain", *wheels.LACKING, *along_with(wheels.PRESENT)}
    # torch and others import these where they are; the last two share the names 'benchmarks' and 'google' with others.
    there |= {"opt-einsum", "tqdm", "opacus", "nvidia-ml-py", "googleapis-common-protos"}
    extra = sorted({plain(name) for name in tried[1]["packages"]} - there)
    assert extra == []


def test_the_wheels_are_all_that_is_lacking() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {plain(Requirement(line).name) for line in project["dependencies"]} - {"imageio-ffmpeg"}
    assert needed <= {*wheels.LACKING, *wheels.PRESENT}
    assert set(along_with(wheels.LACKING)) <= {*wheels.LACKING, *along_with(wheels.PRESENT)}
    pinned = {plain(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert pinned.issuperset(wheels.LACKING)
    build, download = wheels.commands(Path("there"), "3.12", ["manylinux_2_28_x86_64"], ["--no-index"])
    assert build[-1] == str(ROOT)
    assert {"--only-binary=:all:", "3.12", "manylinux_2_28_x86_64", "--no-index", *wheels.LACKING} <= set(download)


def along_with(names: tuple[str, ...]) -> Iterator[str]:
    """The packages, and what they need; what is not installed here needs nothing."""
    todo, seen = list(names), set()
    while todo:
        name = plain(todo.pop())
        if name in seen:
            continue
        seen.add(name)
        yield name
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        needed = map(Requirement, lines)
        todo += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_row_has_its_function() -> None:
    for row in (*rows(mini=False), *rows(mini=True)):
        if "jax" not in row.needs:
            assert callable(resolve(row.work))
        assert row.kind in command.GUESSES
    assert len({row.name for row in rows(mini=False)}) == len(rows(mini=False))


class Counter:
    """A worker whose rows take what they say, by a clock that it moves itself."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.left = 100.0
        self.passed = 0.0

    def ask(self, work: str, options: dict[str, Any], seconds: float) -> dict[str, Any]:
        self.asked.append(work)
        took = min(options["seconds"], seconds)
        self.left -= took
        return {"passed": True, "took_s": took} if took < seconds else {"error": "not done", "took_s": took}


def test_a_row_that_does_not_fit_is_skipped_and_the_next_one_is_not(tmp_path: Path) -> None:
    """What a row is thought to take is a guess, and then what the slowest one of its kind took."""
    todo = [
        Row("first", "train compiled", "a", {"seconds": 70.0}),  # 50 by the guess
        Row("second", "train compiled", "b", {"seconds": 1.0}),
        Row("third", "step eager", "c", {"seconds": 4.0}),
        Row("on a gpu", "step eager", "d", {"seconds": 4.0}, needs=("cuda",)),
    ]
    worker: Any = Counter()
    report = Report(tmp_path, {"device": "cpu", "mini": False, "jax": None})
    command.run(todo, report, worker, worker)
    assert worker.asked == ["a", "c"]
    first, second, third, fourth = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert first["passed"] is third["passed"] is True
    assert second == {"name": "second", "skipped": "it takes about 70 s, and 30 s are left"}
    assert fourth["skipped"] == "it needs a GPU with CUDA"
    assert report.failed == []


def test_a_row_that_the_end_cuts_off_has_not_failed(tmp_path: Path) -> None:
    worker: Any = Counter()
    report = Report(tmp_path, {"device": "cpu", "mini": False, "jax": None})
    command.run([Row("long", "train compiled", "a", {"seconds": 200.0})], report, worker, worker)
    assert report.rows == [{"name": "long", "skipped": "the time was over before it was done"}]
    assert report.failed == []


def test_it_ends_in_time_whatever_is_left_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.perf_counter()
    assert command.main(["--device", "cpu", "--mini", "--seconds", "3", "--out", str(tmp_path)]) == 1
    assert time.perf_counter() - begin < 10
    assert "Nothing can be measured on 'cpu': it was not done after 1 s" in capsys.readouterr().err
    assert json.loads((tmp_path / "gpu.json").read_text())["rows"] == []


def test_a_row_that_fails_hangs_or_dies_does_not_take_others_along(tmp_path: Path) -> None:
    worker = Worker("cpu", mini=True)
    try:
        assert worker.ask("gpu_rows:fine", {"x": 1}, 60).items() >= {"device": "cpu", "x": 1}.items()
        first = worker.process.pid
        failed = worker.ask("gpu_rows:fails", {}, 60)
        assert failed["error"] == "ValueError: no such thing"
        assert "in fails" in failed["where"]
        assert worker.process.pid == first
        assert worker.ask("gpu_rows:hangs", {}, 0.5)["error"] == "it was not done after 0 s"
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        died = worker.ask("gpu_rows:dies", {}, 60)
        assert died["error"] == "its process died, exit code 7"
        assert worker.process is None  # until the next row
    finally:
        worker.close()
    report = Report(tmp_path, {"device": "cpu"})
    report.add("one", failed)
    report.add("two", {"passed": False, "apart": 0.5})
    report.add("three", {"passed": True})
    assert report.failed == ["one", "two"]
    text = report.save_table()
    assert "| one |  |  |  |  |  | error: ValueError: no such thing |" in text
    assert "| two |  |  |  |  |  | FAILED, apart 0.5 |" in text
    assert (tmp_path / "gpu.md").read_text() == text
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".md"] == ["gpu.json"]


def test_the_checks_fail_where_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {("eager", 0): torch.zeros(3), ("eager", None): torch.ones(3)}
    for end, passed in ((torch.ones(3) + 1e-4, True), (torch.tensor([1.0, 1.0, 1.1]), False)):
        monkeypatch.setattr(correctness, "trained", lambda s, a, *how, end=end: ends.get(how, end))
        assert correctness.same(MINI, "ppo", "compiled")["passed"] is passed

    loaded = iter([{"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.ones(2), "b": torch.zeros(2)}])
    monkeypatch.setattr(correctness, "tensors", lambda _: next(loaded))
    assert correctness.resumes(MINI, "ppo") == {"passed": False, "tensors": 2, "different": ["b"]}

    class Forgetful(environments.Draws):
        def __init__(self, values: Any = None) -> None:
            super().__init__()

    monkeypatch.setattr(environments, "Draws", Forgetful)  # what is drawn on the CPU is not drawn on the device
    assert max(environments.differences("rltrain/FrozenLake-v1", "cpu", 64, 3)) == 1.0
    assert max(environments.differences("rltrain/CartPole-v1", "cpu", 64, 3)) == 0.0


@pytest.mark.parametrize(
    ("ours", "theirs", "gap"),
    [
        ([1.0, torch.nan, torch.inf], [1.0, torch.nan, torch.inf], 0.0),
        ([200.0, 1.0], [201.0, 1.0], 0.005),
        ([0.0, 1.0], [0.25, 1.0], 0.25),
        ([1.0], [torch.nan], torch.inf),
        ([1, 2], [1, 3], 1.0),
    ],
)
def test_differences_are_relative_to_what_is_large(ours: list[float], theirs: list[float], gap: float) -> None:
    found = environments.difference(torch.tensor(ours), torch.tensor(theirs))
    assert found == pytest.approx(gap) if gap < torch.inf else found > 1e30


def test_waits_are_looked_for_in_one_iteration_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    assert correctness.waits(MINI, "dqn", "eager") == {"passed": True}
    assert modes == ["error", "default"]


def test_the_projection_has_a_line_for_every_number_of_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "rows", lambda mini: list(training("pqn", CARTPOLE, 64, "eager", "graphs")))
    _, _, only = expected.table().splitlines()
    agent, env, n, kernels, calls, *rates, bound = only.strip("| ").split(" | ")
    assert (agent, env, n, bound) == ("pqn", CARTPOLE, "64", "launches")
    assert int(kernels.replace(",", "")) > 10 * int(calls) > 0
    eager, graphs = (float(rate.removesuffix(" million")) for rate in rates)
    assert 0 < eager < graphs


def test_calls_are_told_apart() -> None:
    calls = {"cudaLaunchKernel": 3, "cuLaunchKernelEx": 2, "cudaGraphLaunch": 4, "cudaMemcpyAsync": 1, "aten::add": 9}
    assert launches.by_kind(calls) == {"kernels": 5, "graphs": 4, "copies": 1, "fills": 0}


def test_the_loop_in_jax_learns_the_same_cartpole() -> None:
    jax = pytest.importorskip("jax", reason="JAX is an extra: pip install -c constraints.txt -e '.[test,jax]'")
    import rltrain
    from benchmarks.gpu import jax_loop

    env: Any = rltrain.make_env("rltrain/CartPole-v1")
    state = env.reset(256, torch.Generator().manual_seed(0))
    motion = torch.stack((state.x, state.x_dot, state.theta, state.theta_dot)) * 20  # some of them beyond the limits
    state.x, state.x_dot, state.theta, state.theta_dot = motion
    action = torch.arange(256) % 2
    after, _, terminated = env.step(state, action, None)
    carts, done = jax_loop.step(
        jax_loop.Carts(jax.numpy.array(motion.numpy()), jax.numpy.zeros(256)), jax.numpy.array(action.numpy())
    )
    wanted = torch.stack((after.x, after.x_dot, after.theta, after.theta_dot))
    torch.testing.assert_close(torch.tensor(carts.motion.tolist()), wanted, rtol=1e-5, atol=1e-5)
    assert done.tolist() == terminated.tolist()
    assert 0 < sum(done.tolist()) < 256
    lengths = jax.jit(jax_loop.make_train(32, 32, 60))(jax.random.PRNGKey(0))
    assert lengths[-10:].mean() > 3 * lengths[:3].mean() > 30
