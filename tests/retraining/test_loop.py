"""``rltrain retrain``: to another champion, to a refusal, to nothing; killed at every step; two at once."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scripted import Turning

pytest.importorskip("river", reason="the extra 'drift' is not installed")

import rltrain
from rltrain.cli import main
from rltrain.errors import ConfigError, DatasetError, RunError
from rltrain.model_registry.gate import Gate
from rltrain.model_registry.promotion import promote
from rltrain.model_registry.store import Registry
from rltrain.recording.decision_log import DecisionLog
from rltrain.retraining.cycle import cycles_in
from rltrain.retraining.loop import retrain
from rltrain.runs.lock import FolderLock

pytestmark = pytest.mark.usefixtures("scripted_known")

WORLD = "test/World-v0"
TRAINING: dict[str, Any] = {"total_timesteps": 8, "num_envs": 2, "n_eval_episodes": 4, "num_threads": 1}


class World(Turning):
    """With luck, so that episodes differ."""

    def __init__(self, *, sign: float = 1.0, luck: float = 1.0, **base: Any) -> None:
        super().__init__(sign=sign, luck=luck, **base)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, scripted_known: None) -> Path:
    """A run whose policy earns 4 in the world as it was."""
    rltrain.register_env(WORLD, World)
    folder = str(tmp_path_factory.mktemp("runs"))
    options: dict[str, Any] = {**TRAINING, "run_dir": folder, "agent": {"plan": [2.0]}}
    return rltrain.train("scripted", WORLD, progress=False, **options).run_dir


Write = Callable[..., Path]


@pytest.fixture
def write(first: Path, tmp_path: Path) -> Write:
    """A registry with a champion, and a policy file."""
    registry = Registry(tmp_path / "models", "world")
    registry.register(first)
    promote(registry, Gate())

    def write(**settings: Any) -> Path:
        common: dict[str, Any] = {
            "model": "world",
            "start": "fresh",  # a scripted policy has no layers to go on from
            "collect": {"episodes": 40},
            **({} if "reference" in settings else {"reference_episodes": 40}),
            "train": {"agent": {"plan": [-2.0]}},
            "gate": {"episodes": 20},
        }
        (tmp_path / "world.yaml").write_text(yaml.safe_dump({**common, **settings}))
        return tmp_path / "world.yaml"

    return write


def score(registry: Registry, **env: Any) -> float:
    """What the champion earns."""
    return rltrain.load(registry.open(registry.find("champion"))).evaluate(20, **env).mean_reward


def test_a_world_that_turned(write: Write, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models", "world")
    was, turned = score(registry), score(registry, sign=-1.0)
    assert (was > 4.0, turned < -4.0) == (True, True)

    said: list[str] = []
    outcome = retrain(write(env={"sign": -1.0}), tell=said.append)
    assert (outcome.name, outcome.exit_code) == ("promoted", 0)
    assert registry.state()["aliases"] == {"champion": 2}
    assert score(registry, sign=-1.0) > 3.0
    lineage = registry.facts(2)["lineage"]
    assert (lineage["fine_tuned_from"], lineage["cycle"]) == (1, "world.retraining/cycle_0001")
    steps = outcome.cycle.state["steps"]
    assert [each["signal"] for each in steps["drift"]["alarms"]] == ["return"]
    assert lineage["data"] == steps["collect"]["checksum"]
    assert steps["promote"]["checks"][0]["passed"]
    assert [line.partition(":")[0] for line in said if " ..." not in line] == [
        *("cycle 1", "collect", "check", "drift", "train", "register", "promote", "cycle 1")
    ]

    again = retrain(write(env={"sign": -1.0}))  # the new champion is at home in it
    assert (again.name, again.cycle.number, again.exit_code) == ("no drift", 2, 0)
    assert registry.versions() == [1, 2]


def test_a_policy_that_learns_goes_on_from_the_champion(tmp_path: Path) -> None:
    options: dict[str, Any] = {**TRAINING, "total_timesteps": 64, "agent": {"n_steps": 16, "batch_size": 32}}
    run = rltrain.train("ppo", "rltrain/CartPole-v1", progress=False, run_dir=str(tmp_path / "runs"), **options).run_dir
    registry = Registry(tmp_path / "models", "pole")
    registry.register(run)
    promote(registry, Gate())
    common: dict[str, Any] = {"collect": {"episodes": 20}, "reference_episodes": 20}
    common["gate"] = {"episodes": 4, "margin": 500}
    settings = {"model": "pole", "env": {"length": 2.0, "max_episode_steps": 30}, "when": "always", **common}
    (tmp_path / "pole.yaml").write_text(yaml.safe_dump({**settings, "train": {"agent": {"learning_rate": 1e-9}}}))
    outcome = retrain(tmp_path / "pole.yaml")
    assert outcome.name == "promoted"
    one, two = (rltrain.load(registry.open(number)) for number in (1, 2))
    assert two.config.env.kwargs == {"length": 2.0}
    assert two.config.env.max_episode_steps == 30
    assert (two.config.agent.n_steps, two.config.agent.learning_rate) == (16, 1e-9)
    obs = np.random.default_rng(0).uniform(-0.2, 0.2, (20, 4)).astype(np.float32)
    assert one.predict(obs)[0].tolist() == two.predict(obs)[0].tolist()  # it has hardly learned


def test_no_drift_and_training_all_the_same(write: Write, tmp_path: Path) -> None:
    assert retrain(write()).name == "no drift"
    assert not (tmp_path / "world.retraining" / "cycle_0001" / "runs").exists()
    outcome = retrain(write(when="always"))
    assert (outcome.name, outcome.exit_code) == ("refused", 1)  # what it says now costs
    registry = Registry(tmp_path / "models", "world")
    assert registry.state()["aliases"] == {"champion": 1, "challenger": 2}
    assert registry.state()["log"][-1]["action"] == "refused"


def test_bad_data_ends_it(write: Write, tmp_path: Path) -> None:
    outcome = retrain(write(env={"sign": -1.0}, reward_range=[-1.0, 1.0]))
    assert (outcome.name, outcome.exit_code) == ("bad data", 1)
    assert "reward-range" in outcome.cycle.state["steps"]["check"]["findings"][0]
    assert Registry(tmp_path / "models", "world").versions() == [1]


def test_an_error_ends_the_cycle_and_the_next_begins_anew(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="There is no dataset"):
        retrain(write(env={"sign": -1.0}, reference="nowhere"))
    (cycle,) = cycles_in(tmp_path / "world.retraining")
    assert (cycle.outcome, "nowhere" in cycle.state["error"]) == ("failed", True)
    outcome = retrain(write(env={"sign": -1.0}))
    assert (outcome.cycle.number, outcome.name) == (2, "promoted")


STOPS = [
    f"{step}{when}" for step in ("collect", "check", "drift", "train", "register", "promote") for when in (" ...", ":")
]


@pytest.mark.parametrize("at", STOPS)
def test_a_kill_at_each_step(at: str, write: Write, tmp_path: Path) -> None:
    """Before a step and after it; what is done is not done again, and there is one new version."""
    file = write(env={"sign": -1.0})

    def die(line: str) -> None:
        if line.startswith(at):
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)
            retrain(file, tell=die)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    (cycle,) = cycles_in(tmp_path / "world.retraining")
    before = {name: facts["done"] for name, facts in cycle.state["steps"].items()}
    outcome = retrain(write(env={"sign": 1.0}))  # a file that was changed since is for the next cycle
    assert (outcome.name, outcome.cycle.number) == ("promoted", 1)
    assert {name: outcome.cycle.state["steps"][name]["done"] for name in before} == before
    registry = Registry(tmp_path / "models", "world")
    assert (registry.versions(), registry.state()["aliases"]) == ([1, 2], {"champion": 2})
    assert [each["action"] for each in registry.state()["log"]].count("promoted") == 2


@pytest.mark.parametrize("at", ["registered", "promoted"])
def test_a_kill_between_the_registry_and_the_cycle(at: str, write: Write, tmp_path: Path) -> None:
    """The registry has it already, and the cycle does not know."""
    outcome = retrain(write(env={"sign": -1.0}))
    state = outcome.cycle.state
    for name in ("register", "promote") if at == "registered" else ("promote",):
        del state["steps"][name]
    state["outcome"] = None
    outcome.cycle.done("train", state["steps"]["train"])
    assert retrain(write()).name == "promoted"
    registry = Registry(tmp_path / "models", "world")
    assert registry.versions() == [1, 2]
    assert [each["action"] for each in registry.state()["log"]].count("promoted") == 2


def test_two_at_once(write: Write, tmp_path: Path) -> None:
    (tmp_path / "world.retraining").mkdir()
    lock = FolderLock(tmp_path / "world.retraining")
    lock.acquire()
    with pytest.raises(RunError, match="is in use by another process"):
        retrain(write())
    lock.release()


def test_from_the_logs_of_a_server(write: Write, tmp_path: Path) -> None:
    now = [1_000.0]
    space = rltrain.load(Registry(tmp_path / "models", "world").open(1))
    spaces = (space.translation.observation_space, space.translation.action_space)
    rng = np.random.default_rng(0)

    def play(model: str, episodes: int, pays: float) -> None:
        log = DecisionLog(tmp_path / "log", model, WORLD, *spaces, clock=lambda: now[0])
        for _ in range(episodes):
            now[0] += 1.0
            seen = {"obs": rng.random((1, 1), np.float32)}
            (decision,) = log.add(seen, np.full((1, 1), 2.0, np.float32))
            log.feedback(decision, pays + rng.normal(), truncated=True)
        log.close()

    file = write(env={"sign": -1.0}, collect={"logs": "log", "least": 30}, drift={"watch": ["return"]})
    play("world-v1", 20, -2.0)
    play("world-v0", 30, 4.0)  # of a version that is not the champion
    outcome = retrain(file, clock=lambda: now[0])
    assert (outcome.name, outcome.exit_code) == ("too few episodes", 0)
    assert outcome.cycle.state["steps"]["collect"]["usable"] == 20
    play("world-v1", 20, -2.0)
    outcome = retrain(file, clock=lambda: now[0])
    assert outcome.name == "promoted"
    assert outcome.cycle.state["steps"]["collect"]["episodes"] == 40  # those before were not forgotten
    play("world-v2", 20, 1.0)
    assert retrain(file, clock=lambda: now[0]).cycle.state["steps"]["collect"]["usable"] == 20


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"modle": "world"}, "modle"),
        ({"train": {"init_from": "x"}}, "train.init_from is set by the loop"),
        ({"train": {"env": {"kwargs": {}}}}, "the environment as it is now is 'env'"),
        ({"collect": {"least": 30}}, "collect.least is for logs"),
        ({"collect": {"logs": "x", "episodes": 30}}, "with logs give collect.least"),
        ({"collect": {"episodes": 3}}, "collect.episodes"),
        ({"gate": {"episode": 3}}, "episode"),
        ({"drift": {"detector": "adwin", "threshold": 3}}, "adwin has no threshold"),
        ({"model": "../x"}, "is no name for a model"),
    ],
)
def test_a_file_that_does_not_fit(settings: dict[str, Any], said: str, write: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        retrain(write(**settings))
    assert said in str(caught.value)
    assert not (tmp_path / "world.retraining").exists()


def test_the_command_line(write: Write, tmp_path: Path, capfd: Any) -> None:
    file = str(write(env={"sign": -1.0}))
    assert main(["retrain", file]) == 0
    out = capfd.readouterr().out
    assert "cycle 1: version 1 of world is the champion" in out
    assert "drift: 1 of" in out
    assert out.splitlines()[-1] == "cycle 1: promoted, the new version is the champion"
    assert main(["retrain", file, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["outcome"] == "no drift"
    assert main(["retrain", file, "--status"]) == 0
    assert [json.loads(line)["outcome"] for line in capfd.readouterr().out.splitlines()] == ["promoted", "no drift"]
    assert main(["retrain", str(tmp_path / "nowhere.yaml")]) == 2
    (tmp_path / "models" / "world" / "state.json").unlink()
    assert main(["retrain", file]) == 2
    assert "has no champion" in capfd.readouterr().err
