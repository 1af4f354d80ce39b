"""``rltrain models``: versions of policies, with aliases, a gate and rollback."""

from __future__ import annotations

import json
import os

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.errors import ConfigError, did_you_mean, plain

ACTIONS = {
    "list": "versions and aliases, of one model or all",
    "register": "add the policy of a run as the challenger: register NAME RUN",
    "show": "lineage, metrics and files of a version: show NAME@challenger",
    "path": "the verified folder of a version, for eval, serve and export: path NAME@champion",
    "alias": "call a version something: alias NAME@3 canary",
    "promote": "make the challenger the champion, if it passes the gate: promote NAME",
    "rollback": "make the champion before the present one the champion again: rollback NAME",
    "log": "what was done: log NAME",
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
    parsed = parser.parse(arguments)
    if parsed.action not in ACTIONS:
        fix = did_you_mean(parsed.action, ACTIONS, f"Give one of: {', '.join(ACTIONS)}.")
        raise ConfigError(f"There is no 'models {parsed.action}'.", fix)
    taken = {"register": ("checkpoint", "card"), "promote": ("gate", "env")}
    for name in ("checkpoint", "card", "gate", "env"):
        if getattr(parsed, name) is not None and name not in taken.get(parsed.action, ()):
            raise ConfigError(f"'models {parsed.action}' takes no --{name}.", "Leave it out.")
    most = {"list": (0, 1), "register": (2, 2), "alias": (2, 2)}.get(parsed.action, (1, 1))
    if not most[0] <= len(parsed.words) <= most[1]:
        raise ConfigError(f"'models {parsed.action}' takes other words.", f"{ACTIONS[parsed.action].capitalize()}.")

    from rltrain.model_registry.contents import read_key
    from rltrain.model_registry.store import CHALLENGER, Registry, names_in

    folder = parsed.registry or os.environ.get("RLTRAIN_MODELS") or "models"
    key = read_key(parsed.key_file or os.environ.get("RLTRAIN_MODELS_KEY"))
    if parsed.action == "list":
        for name in parsed.words or names_in(folder):
            _list(Registry(folder, name, key))
        return 0
    name, at, version = parsed.words[0].partition("@")
    registry = Registry(folder, name, key)
    if at and parsed.action in ("register", "rollback", "log"):
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
