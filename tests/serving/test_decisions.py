"""Decisions of a served policy: what is kept of them, and the dataset that they become."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

from safetensors import safe_open
from safetensors.numpy import save
from served import counting_model, plain_model, serving

from rltrain.cli import main
from rltrain.data.check import check_dataset
from rltrain.data.dataset import Dataset
from rltrain.errors import ConfigError, DatasetError
from rltrain.recording.decision_log import DecisionLog
from rltrain.recording.decision_reader import DecisionReader
from rltrain.recording.decisions import import_decisions
from rltrain.serving.app import BINARY
from rltrain.serving.decisions import Decisions
from rltrain.serving.model import Served

OBS = {"place": [0.5, -0.25], "door": 2}


def log_of(folder: Path, model: Served, **options: Any) -> DecisionLog:
    spaces = (model.observation_space, model.action_space)
    return DecisionLog(folder, model.version, model.env, *spaces, **options)


def test_an_episode_becomes_one_of_a_dataset(tmp_path: Path) -> None:
    model, folder = plain_model(), tmp_path / "log"
    with serving(model, decisions=Decisions(log_of(folder, model))) as client:
        ids = []
        for door in (1, 3, 2):
            answer = client.ask("POST", "/predict", {"obs": {**OBS, "door": door}, "episode": "one"})[1]
            assert answer["action"] == door
            ids.append(answer["decision"])
        for reward, each in zip((0.5, 1.0), ids, strict=False):
            assert client.ask("POST", "/feedback", {"decision": each, "reward": reward})[0] == 204
        last = {"decision": ids[2], "reward": 2.0, "terminated": True, "final_obs": {**OBS, "door": 3}}
        assert client.ask("POST", "/feedback", last)[0] == 204
        two = client.ask("POST", "/predict", {"observations": [OBS, OBS]})[1]["decisions"]  # each for itself
        client.ask("POST", "/feedback", {"decision": two[0], "reward": 7, "truncated": True})
        client.ask("POST", "/predict", {"obs": OBS, "episode": "one"})  # a new one that is not over
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}

    dataset, dropped = import_decisions(folder, tmp_path / "data")
    assert (len(dataset.episodes), dropped) == (2, 0)
    assert dataset.episodes.returns.tolist() == [3.5, 7.0]
    assert dataset.episodes.has_final.tolist() == [True, False]
    episode = dataset.episode(0)
    assert episode["obs.door"].tolist() == [1, 3, 2, 3]
    assert episode["obs.place"][0].tolist() == [0.5, -0.25]
    assert episode["action"].tolist() == [1, 3, 2]
    assert (episode["reward"].tolist(), episode["terminated"].tolist()) == ([0.5, 1.0, 2.0], [False, False, True])
    assert dataset.episode(1)["truncated"].tolist() == [True]
    assert [each["name"] for each in dataset.policies] == ["plain-1"]
    assert not [each for each in check_dataset(dataset) if each.is_error]


def test_sessions_are_episodes(tmp_path: Path) -> None:
    model = counting_model()
    with serving(model, decisions=Decisions(log_of(tmp_path / "log", model))) as client:
        session = client.ask("POST", "/sessions")[1]["session"]

        def act(**more: Any) -> None:
            answer = client.ask("POST", "/predict", {"obs": 4, "session": session, **more})[1]
            client.ask("POST", "/feedback", {"decision": answer["decision"], "reward": 1.0})

        act()
        act()
        act(episode_start=True)
        client.ask("DELETE", f"/sessions/{session}")
    assert session not in next((tmp_path / "log").iterdir()).read_text()
    dataset, _ = import_decisions(tmp_path / "log", tmp_path / "data")
    assert dataset.episodes.length.tolist() == [2, 1]
    assert dataset.take("action", np.arange(3)).tolist() == [1, 2, 1]


def test_binary_requests_are_kept_too(tmp_path: Path) -> None:
    model = plain_model()
    with serving(model, decisions=Decisions(log_of(tmp_path / "log", model))) as client:
        arrays = {"obs.door": np.array([1, 3]), "obs.place": np.zeros((2, 2), np.float32)}
        answer = client.ask("POST", "/predict", save(arrays), content_type=BINARY)[1]
        (tmp_path / "answer").write_bytes(answer)
        with safe_open(str(tmp_path / "answer"), "numpy") as file:
            ids = file.metadata()["decisions"].split()
        for each in ids:
            assert client.ask("POST", "/feedback", {"decision": each, "reward": 1, "terminated": True})[0] == 204
    dataset, _ = import_decisions(tmp_path / "log", tmp_path / "data")
    assert dataset.take("action", np.arange(2)).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"decision": "x", "reward": 1.0}, 422, "is no id that POST /predict has given"),
        ({"decision": "ID9", "reward": 1.0}, 422, "is no id that POST /predict has given"),
        ({"decision": "ID", "reward": "1"}, 422, "'reward' is a finite number"),
        ({"decision": "ID", "reward": 10**400}, 422, "'reward' is a finite number"),
        (b'{"decision": "ID", "reward": NaN}', 422, "'reward' is a finite number"),
        ({"decision": "ID"}, 422, "Give 'reward', or say that the episode is over"),
        ({"decision": "ID", "reward": 1, "terminated": 1}, 422, "are true or false"),
        ({"decision": "ID", "reward": 1, "final_obs": OBS}, 422, "'final_obs' is of an episode that is over"),
        ({"decision": "ID", "terminated": True, "final_obs": {**OBS, "door": 9}}, 422, "door = 9 is above 3"),
        ({"decision": "ID", "rewards": 1}, 422, "There is no 'rewards' in feedback"),
        (b"{", 400, "The body cannot be read"),
    ],
)
def test_feedback_that_does_not_fit(body: Any, status: int, said: str, tmp_path: Path) -> None:
    model = plain_model()
    with serving(model, decisions=Decisions(log_of(tmp_path, model))) as client:
        known = client.ask("POST", "/predict", {"obs": OBS})[1]["decision"]
        sent = (body if isinstance(body, bytes) else json.dumps(body).encode()).replace(b"ID", known.encode())
        answered, answer, _ = client.ask("POST", "/feedback", sent)
        assert (answered, said in answer["error"]) == (status, True), answer
        assert client.ask("POST", "/predict", {"obs": OBS, "episode": ""})[0] == 422
        assert client.ask("POST", "/predict", {"observations": [OBS], "episode": "a"})[0] == 422


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    with serving(plain_model()) as client:
        assert client.ask("POST", "/predict", {"obs": OBS})[1] == {"action": 2}
        assert client.ask("POST", "/predict", {"obs": OBS, "episode": "a"})[0] == 422
        assert client.ask("POST", "/feedback", {"decision": "a", "reward": 1})[0] == 404


def test_a_full_log_does_not_stop_the_service(tmp_path: Path) -> None:
    model = plain_model()
    log = log_of(tmp_path, model, limit=800)
    with warnings.catch_warnings(record=True) as warned, serving(model, decisions=Decisions(log)) as client:
        warnings.simplefilter("always")
        assert [client.ask("POST", "/predict", {"obs": OBS})[0] for _ in range(5)] == [200] * 5
        assert f"rltrain_lost_decisions {log.lost:.1f}" in client.ask("GET", "/metrics")[1].decode()
    assert 0 < log.lost < 5
    assert sum("Decisions are no longer logged" in str(each.message) for each in warned) == 1
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 800
    assert len(DecisionReader(tmp_path, idle=0).episodes()) == 5 - log.lost


def test_rewards_that_nobody_sent(tmp_path: Path) -> None:
    model, now = plain_model(), [100.0]
    log = log_of(tmp_path / "log", model, clock=lambda: now[0])
    row = {"obs.door": np.array([1]), "obs.place": np.zeros((1, 2), np.float32)}
    for reward in (None, 2.0):
        now[0] += 10
        (decision,) = log.add(row, np.array([1]))
        log.feedback(decision, reward, truncated=True)
    log.close()
    dataset, dropped = import_decisions(tmp_path / "log", tmp_path / "some")
    assert (dataset.episodes.returns.tolist(), dropped) == ([2.0], 1)
    dataset, dropped = import_decisions(tmp_path / "log", tmp_path / "all", missing_reward="zero")
    assert (dataset.episodes.returns.tolist(), dropped) == ([0.0, 2.0], 0)
    assert dataset.manifest["rewards_missing"] == 1
    assert len(DecisionReader(tmp_path / "log").episodes(after=110.0)) == 1  # by the time of their end
    with pytest.raises(DatasetError, match="Rewards are missing in all 1 episodes"):
        import_decisions(tmp_path / "log", tmp_path / "none", before=110.0)
    assert not (tmp_path / "none").exists()


def test_idle_episodes_are_over(tmp_path: Path) -> None:
    model = plain_model()
    log = log_of(tmp_path, model, clock=lambda: 100.0)
    row = {"obs.door": np.array([1]), "obs.place": np.zeros((1, 2), np.float32)}
    log.add(row, np.array([1]), "left")
    log.close()
    reader = DecisionReader(tmp_path, idle=50.0)
    assert [len(reader.episodes(before=time)) for time in (149.0, 150.0)] == [0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"obs.door":', '"doors":'), "'obs.door' is missing"),
        (lambda text: text.replace("[0.5,-0.25]", "[0.5]"), "has the shape (1,) where its space has (2,)"),
        (lambda text: text.replace('"action":2', '"action":"x"'), "Line 2 of"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "it is of another format than 1"),
        (lambda text: text + "[1]\n", "it holds no JSON object"),
        (lambda text: text + '{"t": "x"}\n', "Line 4 of"),
    ],
)
def test_a_log_that_was_changed(change: Any, said: str, tmp_path: Path) -> None:
    model = plain_model()
    with serving(model, decisions=Decisions(log_of(tmp_path / "log", model))) as client:
        decision = client.ask("POST", "/predict", {"obs": OBS})[1]["decision"]
        client.ask("POST", "/feedback", {"decision": decision, "reward": 1, "terminated": True})
    (file,) = (tmp_path / "log").iterdir()
    whole = file.read_text()
    file.write_text(whole + '{"t": 1.0, "id": "5')  # a kill in the middle of a line
    assert len(DecisionReader(tmp_path / "log").episodes()) == 1
    file.write_text(change(whole))
    with pytest.raises(DatasetError) as caught:
        import_decisions(tmp_path / "log", tmp_path / "data")
    assert said in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_no_folder_no_log_or_another_environment(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        DecisionReader(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="There is no log of decisions"):
        DecisionReader(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot hold a log"):
        log_of(tmp_path / "file", plain_model())
    log_of(tmp_path / "log", plain_model()).close()
    log_of(tmp_path / "log", counting_model()).close()
    with pytest.raises(DatasetError, match="is of another environment"):
        DecisionReader(tmp_path / "log")


def test_from_the_command_line_and_after_a_kill(tmp_path: Path, capfd: Any) -> None:
    import rltrain

    options: dict[str, Any] = {"total_timesteps": 64, "num_envs": 4, "n_eval_episodes": 0, "agent": {"n_steps": 16}}
    run = rltrain.train("ppo", "rltrain/CartPole-v1", progress=False, run_dir=str(tmp_path / "runs"), **options).run_dir
    command = [sys.executable, "-m", "rltrain", "serve", str(run), "--port", "0", "--log-decisions", "log"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert server.stdout is not None
    assert server.stdout.readline() == "decisions are kept in log\n"
    from served import Client

    client = Client(int(server.stdout.readline().rpartition(":")[2]))
    for _ in range(200):
        try:
            client.ask("GET", "/health")
            break
        except OSError:
            time.sleep(0.02)
    for step in range(4):
        obs = [0.01 * step, 0.0, 0.0, 0.0]
        decision = client.ask("POST", "/predict", {"obs": obs, "episode": "a"})[1]["decision"]
        client.ask("POST", "/feedback", {"decision": decision, "reward": 1.0, "terminated": step == 3})
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    assert main(["data", "import", str(tmp_path / "log"), "--out", str(tmp_path / "data")]) == 0
    assert "1 with 4 steps" in capfd.readouterr().out
    assert Dataset.open(tmp_path / "data", verify=True).episode(0)["obs"][:4, 0] == pytest.approx([0, 0.01, 0.02, 0.03])
    assert main(["serve", str(run), "--log-limit", "5"]) == 2
    assert main(["data", "import", str(tmp_path / "data"), "--out", "x", "--missing-reward", "zero"]) == 2
