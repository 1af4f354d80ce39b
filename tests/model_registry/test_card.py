"""Model cards and bills of materials: what is filled in, what is asked for, what a person wrote, and the formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_folders import CARTPOLE, make_run
from versions import FULL, registry_with, scripted_run

from rltrain.cli import main
from rltrain.model_registry.card import ASKED, make_card, parse_card
from rltrain.model_registry.gate import Gate, Slice
from rltrain.model_registry.promotion import promote
from rltrain.model_registry.sbom import make_sbom, without_licence

pytestmark = pytest.mark.usefixtures("scripted_known")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    cost = {"seconds": 40.0, "energy_kwh": 0.25, "money": 1.5, "currency": "EUR"}
    for seed, score in ((1, 100.0), (2, 200.0)):
        make_run(tmp_path / "runs" / f"ppo_{seed}", seed=seed, score=score)
    make_run(tmp_path / "runs" / "ppo_9", seed=9, score=0.0, options={"agent": {"gamma": 0.5}})
    return make_run(tmp_path / "runs" / "ppo_3", seed=3, score=300.0, metadata={"cost": cost})


def test_what_is_known_is_filled_in_and_the_rest_asked_for(run: Path) -> None:
    text = make_card(run)
    card = parse_card(text)
    assert card.missing() == [*ASKED, "license"]
    assert card.metadata["library_name"] == "rltrain"
    assert card.metadata["tags"] == ["reinforcement-learning", "deep-reinforcement-learning", "ppo", CARTPOLE]
    (model,) = card.metadata["model-index"]
    (result,) = model["results"]
    assert result["dataset"] == {"name": CARTPOLE, "type": CARTPOLE}
    metric = {"type": "mean_reward", "name": "mean_reward", "value": "300.00 +/- 2.00", "verified": False}
    assert result["metrics"] == [metric]
    seeds = card.sections["seeds and spread"]
    assert "3 seeds with the same settings: mean 200.00, deviation 100.00, 100.00 to 300.00" in seeds
    assert "| 3 | 300.00 |" in seeds
    assert "| 9 |" not in seeds  # it was trained with another setting
    assert "40 s of training, 0.25 kWh (an estimate), 1.50 EUR (an estimate)" in card.sections["energy and cost"]
    assert "95% interval 299.00 to 301.00" in card.sections["evaluation"]
    assert "torch" in card.sections["software"]


def test_what_was_not_recorded_is_said(tmp_path: Path) -> None:
    card = parse_card(make_card(make_run(tmp_path / "runs" / "ppo_1")))
    assert card.sections["evaluation"] == "It was not evaluated at the end of training."
    assert "Not recorded: energy and money." in card.sections["energy and cost"]
    assert card.sections["seeds and spread"] == "One seed was trained."


def test_hugging_face_reads_it(run: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="the extra 'hub' is not installed")
    data = hub.ModelCard(make_card(run, written=parse_card(FULL))).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "rltrain", "reinforcement-learning")
    assert [(each.metric_type, each.dataset_name) for each in data.eval_results] == [("mean_reward", CARTPOLE)]


def test_what_a_person_wrote_is_kept(run: Path) -> None:
    text = make_card(run, written=parse_card(FULL))
    again = parse_card(make_card(run, written=parse_card(text)))
    assert again.missing() == []
    assert again.sections["intended use"] == "To be tested."
    assert again.sections["thanks"] == "To nobody."
    assert make_card(run, written=parse_card(text)) == text


@pytest.mark.parametrize(
    "text", ["", "---\n- 1\n---\n", "---\n{\n---\nx", "# A\n# B", "---\nlicense: [\n---\n## Limits\n\n"]
)
def test_odd_cards_say_nothing(text: str) -> None:
    assert parse_card(text).missing() == [*ASKED, "license"]


def test_a_comment_is_no_answer(tmp_path: Path, scripted_known: None) -> None:
    run = scripted_run(tmp_path / "runs")
    (tmp_path / "card.md").write_text(make_card(run))
    registry = registry_with(tmp_path / "models", run, card=tmp_path / "card.md")
    gate = Gate(episodes=2, card=["license", "Intended use", "Evaluation"])
    _, passed, checks = promote(registry, gate)
    assert (passed, checks[0].said) == (False, "nothing is said about: license, Intended use")
    (tmp_path / "card.md").write_text(make_card(run, written=parse_card(FULL)))
    registry.register(run, card=tmp_path / "card.md")
    assert promote(registry, gate)[1]


def test_the_command_line(tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch, scripted_known: None) -> None:
    monkeypatch.chdir(tmp_path)
    run = scripted_run(tmp_path / "runs")
    assert main(["models", "card", str(run)]) == 0
    said = "card.md: write there: Intended use, Out-of-scope use, Limits, license\n"
    assert capfd.readouterr().out == said
    (tmp_path / "card.md").write_text(FULL)
    assert main(["models", "card", str(run)]) == 0
    assert capfd.readouterr().out == "card.md: nothing is missing\n"
    registry = registry_with(tmp_path / "models", run, card="card.md")
    promote(registry, Gate(episodes=2))
    registry.register(run, card="card.md")
    promote(registry, Gate(episodes=2, slices={"calm": Slice()}))
    assert main(["models", "card", "pay@2", "--out", "two.md"]) == 0
    card = parse_card((tmp_path / "two.md").read_text())
    assert "| slice calm | yes | mean return 4.00 against 4.00" in card.sections["slices"]
    assert (card.sections["limits"], card.missing()) == ("It says one number.", [])
    capfd.readouterr()
    for words, code in (
        (["card", "nothing"], 2),
        (["card", "nowhere/", "--out", "x"], 2),
        (["card", str(run), "--out", "no/folder"], 3),
        (["sbom", "pay@2", "--extras", "nothing"], 2),
        (["sbom", "pay@2", "--gate", "x"], 2),
    ):
        assert main(["models", *words]) == code, words


def test_a_bill_of_materials(tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch, scripted_known: None) -> None:
    monkeypatch.chdir(tmp_path)
    run = scripted_run(tmp_path / "runs")
    registry = registry_with(tmp_path / "models", run)
    assert main(["models", "sbom", "pay@1", "--out", "bom.json", "--extras", "serve"]) == 0
    text = (tmp_path / "bom.json").read_text()
    bom = json.loads(text)
    packages = {each["name"]: each for each in bom["components"]}
    assert {"rltrain", "torch", "numpy", "starlette"} <= packages.keys()
    assert packages["rltrain"]["licenses"] == [{"expression": "MIT"}]
    assert packages["torch"]["purl"].startswith("pkg:pypi/torch@2.")
    model = bom["metadata"]["component"]
    hashes = {each["name"]: each["hashes"][0]["content"] for each in model["components"]}
    assert hashes == {name: entry["sha256"] for name, entry in registry.facts(1)["files"].items()}
    assert any(each["name"] == "rltrain:trained_with:torch" for each in model["properties"])
    refs = {each["bom-ref"] for each in bom["components"]} | {"policy"}
    assert {ref for each in bom["dependencies"] for ref in (each["ref"], *each["dependsOn"])} <= refs
    assert main(["models", "sbom", str(run), "--out", "run.json"]) == 0
    assert "packages, " in capfd.readouterr().out

    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion

    validator = validation.JsonStrictValidator(SchemaVersion.V1_6)
    for file in ("bom.json", "run.json"):
        fault = validator.validate_str((tmp_path / file).read_text())
        assert fault is None, fault
    assert validator.validate_str(text.replace('"bom-ref"', '"bom_ref"')) is not None


def test_packages_without_a_licence_are_named() -> None:
    bom = make_sbom("a", "1", {}, {})
    bom["components"][0].pop("licenses", None)
    assert bom["components"][0]["name"] in without_licence(bom)


def test_yaml_of_odd_names_stays_yaml(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "ppo_1", score=1.0, metadata={"command": "x | y `z` <!-- <b> --> ---"})
    text = make_card(run, title="a: b\n---\n# c")
    assert yaml.safe_load(text.split("---\n")[1])["model-index"][0]["name"] == "a: b --- # c"
    assert parse_card(text).missing() == [*ASKED, "license"]
