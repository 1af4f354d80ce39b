"""``rltrain models``: versions, aliases, the gate, rollback, and what was changed or killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted import Turning
from versions import scripted_run

import rltrain
from rltrain.cli import main
from rltrain.errors import CheckpointError, ConfigError, RunError
from rltrain.model_registry.gate import Gate, Slice, lower_bound
from rltrain.model_registry.promotion import promote
from rltrain.model_registry.store import Registry

pytestmark = pytest.mark.usefixtures("scripted_known")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, scripted_known: None) -> Callable[[float], Path]:
    """A run whose policy says a number, which is half of its return."""
    rltrain.register_env("test/Tax-v0", Turning)
    runs: dict[float, Path] = {}

    def train(level: float) -> Path:
        if level not in runs:
            runs[level] = scripted_run(tmp_path_factory.mktemp("runs"), level, env="test/Tax-v0")
        return runs[level]

    return train


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models", "tax")


GATE = Gate(episodes=8)


def test_a_version_is_a_run_folder_with_its_lineage(trained: Callable[[float], Path], registry: Registry) -> None:
    run = trained(2.0)
    assert registry.register(run) == 1
    folder = registry.open(1)
    assert rltrain.load(folder).evaluate(2).mean_reward == 4.0
    facts = registry.facts(1)
    assert facts["lineage"]["run"] == f"test-Tax-v0/{run.name}"
    assert (facts["lineage"]["algo"], facts["lineage"]["step"]) == ("scripted", 8)
    assert facts["metrics"]["mean_reward"] == 4.0
    assert {"python", "torch"} <= facts["lineage"]["versions"].keys()
    assert registry.state()["aliases"] == {"challenger": 1}
    assert not list(registry.path.glob(".writing*"))


def test_through_the_gate_and_back(trained: Callable[[float], Path], registry: Registry) -> None:
    registry.register(trained(1.0))
    assert promote(registry, GATE)[:2] == (1, True)  # no champion to lose against
    registry.register(trained(2.0))
    number, passed, checks = promote(registry, GATE)
    assert (number, passed, [check.name for check in checks]) == (2, True, ["held-out"])
    assert "mean return 4.00 against 2.00; difference +2.00, lower bound +2.00" in checks[0].said
    assert registry.state()["aliases"] == {"champion": 2}

    registry.register(trained(0.5))
    assert promote(registry, GATE)[1] is False
    assert registry.state()["aliases"] == {"champion": 2, "challenger": 3}
    assert promote(registry, Gate(episodes=8, margin=3.0))[1] is True
    assert registry.roll_back() == 2
    assert registry.state()["aliases"] == {"champion": 2}
    actions = [(each["action"], each["version"]) for each in registry.state()["log"]]
    assert actions == [
        *[("registered", 1), ("promoted", 1), ("registered", 2), ("promoted", 2), ("registered", 3)],
        *[("refused", 3), ("promoted", 3), ("rolled back", 2)],
    ]
    assert registry.roll_back() == 1  # further back
    with pytest.raises(ConfigError, match="has had no other champion"):
        registry.roll_back()


def test_a_rollback_goes_back_by_one_also_where_a_version_returned(
    trained: Callable[[float], Path], registry: Registry
) -> None:
    for _ in range(3):
        registry.register(trained(1.0))
    for number in (1, 2, 3, 2):
        registry.name_version("champion", number)
    assert registry.roll_back() == 3


def test_better_on_average_and_worse_on_a_slice(trained: Callable[[float], Path], registry: Registry) -> None:
    registry.register(trained(1.0))
    promote(registry, GATE)
    registry.register(trained(2.0))
    slices = {"calm": Slice(), "upside down": Slice(env={"sign": -1.0})}
    _, passed, checks = promote(registry, Gate(episodes=8, slices=slices))
    assert not passed
    assert [check.passed for check in checks] == [True, True, False]
    assert "mean return -4.00 against -2.00" in checks[2].said
    slices["upside down"] = Slice(env={"sign": -1.0}, margin=2.5)
    assert promote(registry, Gate(episodes=8, slices=slices))[1]


def test_both_play_in_the_environment_of_the_challenger(registry: Registry, tmp_path: Path) -> None:
    """A champion that was trained where the sign was another one earns what it earns where it is now."""
    options: dict[str, Any] = {"total_timesteps": 8, "num_envs": 2, "n_eval_episodes": 0, "run_dir": str(tmp_path)}
    for level, sign in ((3.0, 1.0), (-1.0, -1.0)):
        agent, env = {"plan": [level]}, {"sign": sign}
        run = rltrain.train("scripted", "test/Tax-v0", progress=False, agent=agent, env_kwargs=env, **options).run_dir
        registry.register(run)
        _, passed, checks = promote(registry, GATE)
        assert passed
    assert "mean return 2.00 against -6.00" in checks[0].said


def test_budgets_and_the_card(trained: Callable[[float], Path], registry: Registry, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("# Intended use\n\nTests.\n\n## Limits\n\n## Data\nnone\n")
    registry.register(trained(1.0), card=card)
    tight = Gate(max_bytes=1, max_latency_us=1e-3, card=["Intended use", "limits"])
    _, passed, checks = promote(registry, tight)
    assert not passed
    assert {check.name: check.passed for check in checks} == {"size": False, "latency": False, "card": False}
    assert checks[2].said == "nothing is said about: limits"
    wide = Gate(max_bytes=10**6, max_latency_us=1e9, card=["intended use", "Data"])
    assert promote(registry, wide)[1]


def test_the_lower_bound_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    below = [lower_bound(rng.normal(1.0, 3.0, 60), 0.9) <= 1.0 for _ in range(40)]
    assert 0.75 <= np.mean(below) <= 0.99


@pytest.mark.parametrize("change", ["byte", "extra", "missing", "link", "version"])
def test_what_was_changed_is_not_opened(
    change: str, trained: Callable[[float], Path], registry: Registry, tmp_path: Path
) -> None:
    registry.register(trained(1.0))
    folder = registry.path / "v1"
    file = next(folder.rglob("policy.safetensors"))
    match change:
        case "byte":
            file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
        case "extra":
            (folder / "more.py").write_text("")
        case "missing":
            (folder / "metadata.json").unlink()
        case "link":
            file.rename(tmp_path / "elsewhere")
            file.symlink_to(tmp_path / "elsewhere")
        case "version":
            text = (folder / "version.json").read_text()
            (folder / "version.json").write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(CheckpointError, match="cannot be used"):
        registry.open(1)


def test_signatures(trained: Callable[[float], Path], registry: Registry, tmp_path: Path) -> None:
    registry.register(trained(1.0))
    signed = Registry(tmp_path / "models", "tax", key=b"k" * 32)
    with pytest.raises(CheckpointError, match=r"version\.json is not signed"):
        signed.open(1)
    assert signed.register(trained(1.0)) == 2
    signed.open(2)
    registry.open(2)  # who has no key sees the checksums alone
    with pytest.raises(CheckpointError, match="signed with another key"):
        Registry(tmp_path / "models", "tax", key=b"o" * 32).open(2)


def test_a_kill_leaves_the_old_or_the_new(trained: Callable[[float], Path], registry: Registry) -> None:
    for level in (1.0, 2.0):
        registry.register(trained(level))
    registry.name_version("champion", 1)
    rng = random.Random(0)
    for _ in range(20):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            while True:
                for number in (2, 1):
                    registry.name_version("champion", number)
                    os.write(writing, b"x")
        os.read(reading, 1)  # it is at work
        time.sleep(rng.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        state = Registry(registry.path.parent, "tax").state()
        assert state["aliases"]["champion"] in (1, 2)
        assert state["log"][-1]["version"] == state["aliases"]["champion"]
        os.close(reading)
        os.close(writing)
    registry.name_version("champion", 1)  # and goes on
    assert not list(registry.path.glob(".*tmp*"))


def test_a_promotion_that_is_killed_leaves_a_champion(trained: Callable[[float], Path], registry: Registry) -> None:
    """At any moment: while a version is verified, while the gate plays, and while the outcome is written."""
    registry.register(trained(1.0))
    promote(registry, GATE)
    registry.register(trained(2.0))

    def in_a_child(until: float | None) -> None:
        child = os.fork()
        if not child:
            try:
                promote(registry, GATE, "2")
            finally:
                os._exit(0)
        if until is not None:
            time.sleep(until)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    began = time.monotonic()
    in_a_child(None)
    took = time.monotonic() - began
    assert registry.state()["aliases"]["champion"] == 2
    rng = random.Random(0)
    for _ in range(20):
        if registry.state()["aliases"]["champion"] == 2:
            assert registry.roll_back() == 1
        in_a_child(rng.uniform(0.0, took))
        seen = Registry(registry.path.parent, "tax")
        state = seen.state()
        assert state["log"][-1]["version"] == state["aliases"]["champion"]
        assert rltrain.load(seen.open(state["aliases"]["champion"])).step == 8
    registry.name_version("champion", 1)
    assert promote(registry, GATE, "2")[1]  # and goes on
    assert not list(registry.path.glob(".*tmp*"))


def test_a_champion_that_changed_meanwhile(trained: Callable[[float], Path], registry: Registry) -> None:
    for _ in range(2):
        registry.register(trained(1.0))
    registry.name_version("champion", 1)
    with pytest.raises(RunError, match="'champion' is version 1 by now, no longer None"):
        registry.name_version("champion", 2, expected=None)


def test_the_command_line(
    trained: Callable[[float], Path], tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLTRAIN_MODELS", str(tmp_path / "kept"))

    def said(*words: str) -> str:
        assert main(["models", *words]) == 0
        return capfd.readouterr().out

    gate = tmp_path / "gate.yaml"
    gate.write_text("episodes: 4\nslices:\n  upside down: {env: {sign: -1.0}}\n")
    assert said("register", "tax", str(trained(1.0))) == "version 1 of tax, the challenger\n"
    assert "version 1 of tax is the champion" in said("promote", "tax")
    said("register", "tax", str(trained(2.0)))
    assert main(["models", "promote", "tax", "--gate", str(gate)]) == 1
    out = capfd.readouterr().out
    assert "passed held-out: mean return 4.00 against 2.00" in out
    assert "FAILED slice upside down: mean return -4.00 against -2.00" in out
    assert "version 2 of tax was not promoted" in out
    assert said("list").splitlines() == [
        f"tax 1 champion: scripted in test/Tax-v0 at 8 steps, from test-Tax-v0/{trained(1.0).name}",
        f"tax 2 challenger: scripted in test/Tax-v0 at 8 steps, from test-Tax-v0/{trained(2.0).name}",
    ]
    folder = said("path", "tax@champion").strip()
    assert rltrain.load(folder).evaluate(2).mean_reward == 2.0
    assert json.loads(said("show", "tax@2"))["version"] == 2
    said("alias", "tax@2", "canary")
    assert said("path", "tax@canary").strip().endswith("v2")
    assert '"action": "refused"' in said("log", "tax")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["promot", "tax"], "There is no 'models promot'. Did you mean 'promote'?"),
        (["register", "tax"], "'models register' takes other words."),
        (["register", "../tax", "run"], "'../tax' is no name for a model."),
        (["register", "tax", "nowhere"], "There is no run folder 'nowhere'."),
        (["promote", "tax"], "'tax' has no version 'challenger'. Register a run first."),
        (["rollback", "tax"], "'tax' has had no other champion."),
        (["list", "--gate", "x"], "'models list' takes no --gate."),
        (["list", "--registry", "nowhere"], "There is no registry 'nowhere'"),
        (["promote", "tax", "--gate", "nowhere.yaml"], "The gate 'nowhere.yaml' cannot be read"),
        (["path", "tax", "--key-file", "nowhere"], "'nowhere' cannot be read"),
    ],
)
def test_mistakes(words: list[str], message: str, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["models", *words]) != 0
    assert message in " ".join(capfd.readouterr().err.replace("fix:", "").replace("Fix:", "").split())
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_line_of_a_gate(tmp_path: Path) -> None:
    from rltrain.model_registry.gate import read_gate

    (tmp_path / "gate.yaml").write_text("episode: 4\n")
    with pytest.raises(ConfigError, match="episodes"):
        read_gate(tmp_path / "gate.yaml")
