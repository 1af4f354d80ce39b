"""Jobs of Ray: the program that hands one over, and what it does on a cluster of two machines, which are here."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from test_entry import about, wait_for

import rltrain
from rltrain.cli import main
from rltrain.cloud.place import place_of
from rltrain.cloud.ray_job import main as run_job
from rltrain.cloud.ray_job import read
from rltrain.errors import ConfigError

CARTPOLE = "rltrain/CartPole-v1"
RUN = ["ppo", CARTPOLE, "--num-envs", "4", "--agent.n-steps", "16", "--agent.batch-size", "64", "--trackers", "[]"]
RUN += ["--agent.n-epochs", "1", "--n-eval-episodes", "0", "--save-freq", "1024", "--keep-checkpoints", "1000"]


def job_file(folder: Path, *words: str) -> Path:
    out = folder / "job.py"
    assert main(["cloud", "ray", *RUN, "--out", str(out), *words]) == 0
    return out


def entrypoint(path: Path) -> list[str]:
    """The words in the program."""
    (found,) = [node.value for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    words: list[str] = ast.literal_eval(found)
    return words


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--nodes", "2", "--ranks", "2", "--gpus", "2", "--gpu", "H100", "--file-system", "/shared"]
    path = job_file(tmp_path, *words, "--data", "/shared/set", "--max-hours", "1")
    assert f"python {path}" in capsys.readouterr().out
    found = entrypoint(path)
    assert found[:3] == ["python", "-m", "rltrain.cloud.ray_job"]
    request = read(found[3:])
    assert (request.job, request.nodes, request.seconds) == ("ppo-cartpole-v1", 2, 3600)
    assert request.bundle == {"CPU": 2, "GPU": 2, "accelerator_type:H100": 0.001}
    options, arguments = request.words[: request.words.index("--")], request.words[request.words.index("--") + 1 :]
    assert set(options) == {
        *("--ranks=2", "--runs=/shared/runs", "--model=/shared/models/ppo-cartpole-v1", "--data=/shared/set")
    }
    assert arguments[:2] == ["ppo", CARTPOLE]


def test_where_a_machine_is() -> None:
    env = {"JOB": "j", "NODES": "2", "NODE": "1", "FIRST": "10.0.0.1", "PORT": "7001"}
    place = place_of("ray", {"ranks": "2"}, ["ppo", "e"], {f"RLTRAIN_{name}": value for name, value in env.items()})
    assert (place.job, place.nodes, place.node, place.first, place.port, place.ranks) == (
        "j",
        2,
        1,
        "10.0.0.1",
        7001,
        2,
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "A job of ray needs --file-system."),
        (["--file-system", "shared"], "'shared' is no folder of every machine."),
        (["--file-system", "/s", "--output", "s3://b"], "'s3://b' is no folder of every machine."),
        (["--file-system", "/s", "--spot"], "--spot is not for ray"),
        (["--file-system", "/s", "--image", "i"], "--image is not for ray"),
        (["--file-system", "/s", "--gpu", "H100"], "--gpu H100 needs --gpus"),
        (["--file-system", "/s", "--infra", "aws"], "--infra is not for ray."),
    ],
)
def test_mistakes_are_told(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cloud", "ray", *RUN, *words]) == 2
    assert why in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--job=j", "--runs=/r"], "The job says nothing to train"),
        (["--job=j", "--nodse=2", "--", "ppo", "e"], "A job of Ray knows no '--nodse=2'"),
        (["--job=j", "--nodes=two", "--", "ppo", "e"], "'--nodes=two' is no number"),
        (["--runs=/r", "--", "ppo", "e"], "A job of Ray needs --job="),
    ],
)
def test_words_that_a_job_does_not_know(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=why):
        read(words)
    assert run_job(words) == 2
    assert why in capsys.readouterr().err


# On a cluster of Ray. It is too large to be installed for every test run: pip install 'rltrain[ray]'


def machine() -> dict[str, Any]:
    """A machine with one core. Ray gives its helpers seconds to find ports of their own, which a busy one needs."""
    names = "metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port"
    with ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        ports = [each.getsockname()[1] for each in free]
    return {"num_cpus": 1, "include_dashboard": False, **dict(zip(names, ports, strict=True))}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="too large to be installed for every test run: pip install 'rltrain[ray]'")
    from ray.cluster_utils import Cluster

    for attempt in range(4):
        made = Cluster()
        try:
            made.add_node(**machine())
            made.add_node(**machine())
            break
        except Exception:  # Ray gives a machine 30 seconds to start, however busy it is
            made.shutdown()
            if attempt == 3:
                raise
    yield made
    made.shutdown()


def test_the_client_of_ray_takes_what_the_program_gives_it(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="the client of jobs needs it: pip install 'ray[default]'")
    jobs = pytest.importorskip("ray.job_submission", reason="pip install 'ray[default]'")
    tree = ast.parse(job_file(tmp_path, "--file-system", "/shared").read_text())
    (call,) = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and "submit_job" in ast.dump(each.func)]
    given = {str(word.arg): None for word in call.keywords}
    inspect.signature(jobs.JobSubmissionClient.submit_job).bind(None, **given)


def start(cluster: Any, folder: Path, *words: str) -> subprocess.Popen[str]:
    own = ["--job=j", "--nodes=2", f"--runs={folder}/runs", f"--model={folder}/model", "--ranks=1"]
    command = [sys.executable, "-m", "rltrain.cloud.ray_job", *own, "--", *RUN, *words]
    env = {**os.environ, "RAY_ADDRESS": cluster.address, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def test_two_machines_train_together(cluster: Any, tmp_path: Path) -> None:
    process = start(cluster, tmp_path, "--total-timesteps", "4096")
    said = process.communicate(timeout=180)
    assert process.returncode == 0, said
    (run,) = [found.parent for found in (tmp_path / "runs").rglob("config.yaml")]
    assert (about(run)["mode"]["ranks"], about(run)["status"]) == (2, "completed")
    action, _ = rltrain.load(tmp_path / "model" / "policy" / "v1").predict([0.0, 0.0, 0.0, 0.0])
    assert action in (0, 1)


def test_a_job_that_is_stopped_goes_on_when_it_is_started_again(cluster: Any, tmp_path: Path) -> None:
    process = start(cluster, tmp_path, "--total-timesteps", "40000")
    run = wait_for(tmp_path / "runs", 3, process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert about(run)["status"] == "interrupted"
    again = start(cluster, tmp_path, "--total-timesteps", "40000")
    said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert about(run)["resumed_at"]
    assert [found.parent for found in (tmp_path / "runs").rglob("config.yaml")] == [run]


def test_a_machine_that_is_lost_is_replaced(cluster: Any, tmp_path: Path) -> None:
    process = start(cluster, tmp_path, "--total-timesteps", "40000")
    run = wait_for(tmp_path / "runs", 2, process)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    cluster.add_node(**machine())
    said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert "a machine was lost; asking for others (1 of 3)" in said[1]
    assert about(run)["resumed_at"], said


def test_a_cluster_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    pytest.importorskip("ray", reason="too large to be installed for every test run: pip install 'rltrain[ray]'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert run_job(["--job=j", "--runs=/r", "--", "ppo", "e"]) == 2
    assert "There is no cluster of Ray" in capfd.readouterr().err
