"""``rltrain models``: versions of policies, with aliases, a gate and rollback."""

from __future__ import annotations

import json
from pathlib import Path

from rltrain.cli.actions import check_action, registry_of
from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.errors import ConfigError, plain

ACTIONS = {
    "list": "versions and aliases, of one model or all",
    "register": "add the policy of a run as the challenger: register NAME RUN",
    "show": "lineage, metrics and files of a version: show NAME@challenger",
    "path": "the verified folder of a version, for eval, serve and export: path NAME@champion",
    "alias": "call a version something: alias NAME@3 canary",
    "promote": "make the challenger the champion, if it passes the gate: promote NAME",
    "rollback": "make the champion before the present one the champion again: rollback NAME",
    "log": "what was done: log NAME",
    "mirror": "make MLflow's registry agree, where $RLTRAIN_MODELS_MLFLOW names one: mirror NAME",
    "fetch": "bring a version back from there: fetch NAME@champion",
    "card": "write the model card of a run or version, for you to complete: card RUN|NAME@VERSION",
    "sbom": "write its bill of materials in CycloneDX: sbom RUN|NAME@VERSION",
}


def main(arguments: list[str]) -> int:
    """Does what the first word says."""
    parser = Parser("models", "Keep versions of policies: " + "; ".join(f"{k}: {v}" for k, v in ACTIONS.items()) + ".")
    parser.add_argument("action", metavar="|".join(ACTIONS))
    parser.add_argument("words", nargs="*", metavar="NAME[@VERSION]", help="and what the action takes besides")
    parser.add_argument("--registry", metavar="FOLDER", help="[$RLTRAIN_MODELS, or models]")
    what = "file with a key, by which versions are signed and must be signed [$RLTRAIN_MODELS_KEY]"
    parser.add_argument("--key-file", metavar="FILE", help=what)
    parser.add_argument("--checkpoint", metavar="best|latest|STEP", help="register: of the run [latest]")
    parser.add_argument("--card", metavar="FILE.md", help="register: what is to be said about the policy")
    parser.add_argument("--gate", metavar="FILE.yaml", help="promote: what it has to show [200 episodes, no loss]")
    what = "promote: name the environment by its module, which is imported"
    parser.add_argument("--env", metavar="MODULE:ID", help=what)
    what = "card, sbom, fetch: where to [card.md, sbom.json]; what you wrote into a card that is there is kept"
    parser.add_argument("--out", metavar="FILE", help=what)
    what = "sbom: optional dependencies of rltrain to list as well, such as serve"
    parser.add_argument("--extras", metavar="NAME", nargs="+", help=what)
    parsed = parser.parse(arguments)
    taken = {
        "register": ("checkpoint", "card"),
        "promote": ("gate", "env"),
        "card": ("out",),
        "fetch": ("out",),
        "sbom": ("out", "extras"),
    }
    check_action("models", parsed, ACTIONS, taken, {"list": (0, 1), "register": (2, 2), "alias": (2, 2)})

    from rltrain.model_registry.store import CHALLENGER, Registry, names_in

    folder, key = registry_of(parsed)
    if parsed.action == "list":
        for name in parsed.words or names_in(folder):
            _list(Registry(folder, name, key))
        return 0
    if parsed.action in ("card", "sbom"):
        from rltrain.cli.cards import write_card, write_sbom

        if parsed.action == "card":
            return write_card(parsed.words[0], folder, key, parsed.out or "card.md")
        return write_sbom(parsed.words[0], folder, key, parsed.out or "sbom.json", parsed.extras or ())
    name, at, version = parsed.words[0].partition("@")
    if parsed.action == "fetch":
        return _fetch(name, version or "champion", parsed.out)
    registry = Registry(folder, name, key)
    if at and parsed.action in ("register", "rollback", "log", "mirror"):
        raise ConfigError(f"'models {parsed.action}' is about all versions.", f"Give '{name}' alone.")
    match parsed.action:
        case "register":
            number = registry.register(parsed.words[1], checkpoint=parsed.checkpoint or "latest", card=parsed.card)
            say(f"version {number} of {name}, the {CHALLENGER}")
        case "show":
            say(plain(json.dumps(registry.facts(registry.find(version or CHALLENGER)), indent=1)))
        case "path":
            say(plain(str(registry.open(registry.find(version or "champion")))))
        case "alias":
            registry.name_version(parsed.words[1], registry.find(version))
            say(f"{name}@{parsed.words[1]} is version {registry.find(version)}")
        case "mirror":
            registry.copy()
            say(f"MLflow has {len(registry.versions())} versions of {name}")
        case "rollback":
            say(f"version {registry.roll_back()} of {name} is the champion again")
        case "log":
            for each in registry.state()["log"]:
                say(plain(json.dumps({key: value for key, value in each.items() if key not in ("gate", "checks")})))
        case "promote":
            return _promote(registry, version or CHALLENGER, parsed.gate, parsed.env)
    return 0


def _list(registry: object) -> None:
    from rltrain.model_registry.store import Registry

    assert isinstance(registry, Registry)
    aliases = registry.state()["aliases"]
    for number in registry.versions():
        lineage = registry.facts(number)["lineage"]
        called = "".join(f" {alias}" for alias, version in aliases.items() if version == number)
        what = f"{lineage['algo']} in {lineage['env']} at {lineage['step']:,} steps, from {lineage['run']}"
        say(plain(f"{registry.name} {number}{called}: {what}"))


def _promote(registry: object, which: str, gate: str | None, env: str | None) -> int:
    from rltrain.model_registry.gate import read_gate
    from rltrain.model_registry.promotion import promote
    from rltrain.model_registry.store import Registry

    assert isinstance(registry, Registry)
    number, passed, checks = promote(registry, read_gate(gate), which, env=env)
    for check in checks:
        say(plain(f"{'passed' if check.passed else 'FAILED'} {check.name}: {check.said}"))
    if passed:
        say(f"version {number} of {registry.name} is the champion")
        return 0
    say(f"version {number} of {registry.name} was not promoted")
    return 1


def _fetch(name: str, which: str, out: str | None) -> int:
    from rltrain.model_registry.mlflow_copy import PLACE, configured

    copy = configured(name)
    if copy is None:
        raise ConfigError(f"{PLACE} names no registry of MLflow.", f"{PLACE}=sqlite:///mlflow.db rltrain ...")
    if out is None:
        raise ConfigError("It is not said where the version is to be.", "Give --out DIR.")
    facts = copy.fetch(which, Path(out))
    say(plain(f"{out}: version {facts.get('version')} of {name}"))
    return 0
