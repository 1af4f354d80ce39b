"""``rltrain hub push|pull`` against a hub on loopback: what goes there, what comes back, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_stub import Hub, serving_hub
from versions import FULL, registry_with, scripted_run

pytest.importorskip("huggingface_hub", reason="the extra 'hub' is not installed")

import rltrain
from rltrain.cli import main
from rltrain.errors import CheckpointError
from rltrain.model_registry.hub import pull
from rltrain.model_registry.store import Registry
from rltrain.storage.records import sealed, unsealed

pytestmark = pytest.mark.usefixtures("scripted_known")
REPO = "me/pay"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, scripted_known: None) -> Path:
    return scripted_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_nothing")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("RLTRAIN_MODELS", str(tmp_path / "models"))
        monkeypatch.chdir(tmp_path)
        yield hub


@pytest.fixture
def registry(hub: Hub, run: Path, tmp_path: Path) -> Registry:
    (tmp_path / "card.md").write_text(FULL)
    return registry_with(tmp_path / "models", run, card="card.md")


def test_there_and_back(hub: Hub, registry: Registry, run: Path, tmp_path: Path, capfd: Any) -> None:
    assert main(["hub", "push", "pay@1", REPO, "--private"]) == 0
    assert capfd.readouterr().out == f"{hub.url}/{REPO}/commit/{hub.commit(REPO)}\n"
    assert hub.private[REPO].get("visibility", hub.private[REPO].get("private")) in ("private", True)
    files = hub.files[REPO]
    assert files["README.md"].decode() == FULL
    assert json.loads(files["sbom.json"])["bomFormat"] == "CycloneDX"
    assert not [name for name in files if not name.endswith((".safetensors", ".json", ".yaml", ".md"))]

    assert main(["hub", "pull", REPO, "--out", "pulled"]) == 0
    said = f"pulled: scripted in test/Pay-v0, version 1 of pay, commit {hub.commit(REPO)}\n"
    assert capfd.readouterr().out == said
    assert rltrain.load(tmp_path / "pulled").evaluate(2).mean_reward == 4.0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    assert main(["models", "register", "theirs", "pulled"]) == 0  # and into a registry of one's own

    number = registry.register(scripted_run(tmp_path / "runs", 1.0, total_timesteps=16), card="card.md")
    assert main(["hub", "push", f"pay@{number}", REPO]) == 0
    assert len([name for name in hub.files[REPO] if name.endswith("policy.safetensors")]) == 1  # the old one is gone


def test_a_card_that_is_not_written_stays_here(hub: Hub, registry: Registry, tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "empty.md").write_text("# Pay\n\n## Limits\n\nMany.\n")
    assert main(["hub", "push", "pay@1", REPO, "--card", "empty.md"]) == 2
    assert "The card says nothing about: Intended use, Out-of-scope use, license." in capfd.readouterr().err
    assert hub.asked == []


def forge(hub: Hub, **changes: Any) -> None:
    """Writes a version.json anew, with a checksum that fits."""
    facts, _ = unsealed(hub.files[REPO]["version.json"].decode())
    hub.files[REPO]["version.json"] = sealed({**facts, **changes}).encode()


def entries(hub: Hub) -> dict[str, Any]:
    return unsealed(hub.files[REPO]["version.json"].decode())[0]["files"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda hub: hub.files[REPO].pop("version.json"), "The Hub and"),
        (lambda hub: hub.lies.update({"version.json": b"{"}), "it is not JSON"),
        (lambda hub: hub.lies.update({"version.json": b"x" * 2**21}), "has more than the 1,048,576 bytes"),
        (lambda hub: hub.lies.update({"config.yaml": b"x" * 10**6}), "'config.yaml' has more than the"),
        (lambda hub: hub.lies.update({"config.yaml": b"x"}), "'config.yaml' was changed: its checksum differs"),
        (lambda hub: hub.files[REPO].pop("config.yaml"), "The Hub and"),
        (
            lambda hub: forge(hub, files={**entries(hub), "../x.json": {"bytes": 1, "sha256": "0"}}),
            "no file of a policy",
        ),
        (lambda hub: forge(hub, files={**entries(hub), "run.py": {"bytes": 1, "sha256": "0"}}), "no file of a policy"),
        (lambda hub: forge(hub, files={**entries(hub), "a.pkl": {"bytes": 1, "sha256": "0"}}), "no file of a policy"),
        (lambda hub: forge(hub, files={**entries(hub), "card.md": {"bytes": 2**40, "sha256": "0"}}), "are allowed"),
        (lambda hub: forge(hub, files={**entries(hub), "card.md": {"bytes": -1, "sha256": "0"}}), "how large"),
        (lambda hub: forge(hub, files=[]), "lists no files"),
        (
            lambda hub: hub.lies.update({"version.json": hub.files[REPO]["version.json"].replace(b"pay", b"pax")}),
            "was changed",
        ),
    ],
)
def test_what_is_hostile_is_refused_and_leaves_nothing(
    change: Any, said: str, hub: Hub, registry: Registry, tmp_path: Path, capfd: Any
) -> None:
    assert main(["hub", "push", "pay@1", REPO]) == 0
    change(hub)
    before = sorted(tmp_path.iterdir())
    assert main(["hub", "pull", REPO, "--out", "pulled"]) in (3, 4)
    assert said in " ".join(capfd.readouterr().err.split())
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_pulled_imports_nothing_and_draws_nothing_on_the_terminal(
    hub: Hub, registry: Registry, tmp_path: Path, capfd: Any
) -> None:
    """A whole version, its checksums right, whose owner means ill: it names a module that lies in this folder."""
    assert main(["hub", "push", "pay@1", REPO]) == 0
    (tmp_path / "evil.py").write_text("open('was_here', 'w')\nraise SystemExit\n")
    files, known = hub.files[REPO], entries(hub)
    for name in ("config.yaml", "metadata.json"):
        content = files[name].replace(b"test/Pay-v0", b"evil:Pay-v0")
        if name == "metadata.json":
            content = sealed(unsealed(content.decode())[0]).encode()
        files[name] = content
        known[name] = {**known[name], "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    lineage = {"algo": "\x1b[2J\x1b]0;mine\x07", "env": "\u202eevil"}
    forge(hub, files=known, name="\x1b[31mpay", lineage=lineage)
    capfd.readouterr()
    assert main(["hub", "pull", REPO, "--out", "pulled"]) == 0
    for words in (["eval", "pulled"], ["export", "pulled", "--to", "pt2"], ["models", "register", "mine", "pulled"]):
        main([*words])
    said = "".join(capfd.readouterr())
    assert "evil:Pay-v0" in said
    assert not [letter for letter in said if letter == "\u202e" or (ord(letter) < 32 and letter not in "\n\r\t")]
    assert not (tmp_path / "was_here").exists()


def test_what_else_lies_there_stays_there(hub: Hub, registry: Registry, tmp_path: Path) -> None:
    assert main(["hub", "push", "pay@1", REPO]) == 0
    hub.files[REPO]["setup.py"] = hub.files[REPO]["policy.pkl"] = b"raise SystemExit"
    pull(REPO, tmp_path / "pulled")
    assert not list((tmp_path / "pulled").rglob("*.p*y")) + list((tmp_path / "pulled").rglob("*.pkl"))
    with pytest.raises(CheckpointError, match="bytes, and 10 are allowed"):
        pull(REPO, tmp_path / "small", limit=10)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pul", REPO], 2, "Did you mean 'pull'?"),
        (["pull", "pay", "--out", "x"], 2, "'pay' is no repository of the Hub. Write OWNER/NAME."),
        (["pull", REPO], 2, "Give --out DIR."),
        (["pull", REPO, "--out", "models"], 2, "There is something at 'models' already."),
        (["pull", "me/nothing", "--out", "x"], 3, "The Hub and 'me/nothing'"),
        (["pull", REPO, "--out", "x", "--private"], 2, "'hub pull' takes no --private."),
        (["push", "pay@1"], 2, "'hub push' takes other words."),
        (["push", "pay@7", REPO], 2, "'pay' has no version '7'."),
    ],
)
def test_mistakes(words: list[str], code: int, said: str, hub: Hub, registry: Registry, capfd: Any) -> None:
    assert main(["hub", *words]) == code
    assert said in " ".join(capfd.readouterr().err.replace("fix:", "").replace("Fix:", "").split())


def test_nobody_answers(registry: Registry, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["hub", "pull", REPO, "--out", "x"]) == 3
    assert "The Hub and 'me/pay'" in capfd.readouterr().err
