"""``rltrain envs``, ``rltrain agents`` and ``rltrain trackers``: list what is registered."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from rltrain import plugins
from rltrain.cli.options import Parser, describe_options
from rltrain.cli.output import beside, say, wrapped
from rltrain.describe import LABELS, describe_env
from rltrain.errors import ConfigError
from rltrain.registry import agent_config_class, agent_spec, agent_specs, env_spec, env_specs, find_env


def envs(arguments: list[str]) -> int:
    """Lists environments by group, or describes the one that is named."""
    parsed = _parse("envs", "environments", arguments)
    specs = env_specs()
    if parsed.query and (":" in parsed.query or find_env(parsed.query) is not None):
        facts = describe_env(parsed.query)
        say(json.dumps(facts, default=str) if parsed.json else _describe_env(facts))
        return 0
    word = (parsed.query or "").lower()
    found = [spec for spec in specs.values() if word in f"{spec.id} {spec.group} {spec.description}".lower()]
    if not found:
        env_spec(parsed.query)  # raises, with the nearest name, unless a module named in the query registers it
        raise ConfigError(f"Nothing matches '{parsed.query}'.", "Run 'rltrain envs' for the list.")
    if parsed.json:
        say(json.dumps({spec.id: spec.description for spec in found}))
        return 0
    width = max(len(spec.id) for spec in found) + 2
    for group, members in groupby(sorted(found, key=lambda spec: spec.group), key=lambda spec: spec.group):
        say(f"{group}:")
        say("\n".join(beside(f"  {spec.id}", spec.description, width + 2) for spec in members))
    return 0


def agents(arguments: list[str]) -> int:
    """Lists agents, or describes the one that is named."""
    parsed = _parse("agents", "agents", arguments)
    specs = agent_specs()
    if parsed.query in specs:
        say(_describe_agent(parsed.query, parsed.json))
        return 0
    word = (parsed.query or "").lower()
    found = {name: spec.description for name, spec in specs.items() if word in f"{name} {spec.description}".lower()}
    if not found:
        agent_spec(parsed.query)  # raises, with the nearest name
    _list(found, parsed.json)
    return 0


def trackers(arguments: list[str]) -> int:
    """Lists trackers."""
    parsed = _parse("trackers", "trackers", arguments, search="with a word search for it")
    word = (parsed.query or "").lower()
    descriptions = {
        name: f"{spec.description} Needs: {spec.missing}" if spec.missing else spec.description
        for name, spec in plugins.trackers.items()
    }
    found = {name: line for name, line in descriptions.items() if word in f"{name} {line}".lower()}
    if not found:
        plugins.trackers.find(parsed.query)  # raises, with the nearest name
    _list(found, parsed.json)
    return 0


def _list(found: dict[str, str], as_json: bool) -> None:
    """Prints names and their descriptions."""
    width = max(map(len, found)) + 2
    say(json.dumps(found) if as_json else "\n".join(beside(name, line, width) for name, line in found.items()))


def _parse(
    verb: str,
    what: str,
    arguments: list[str],
    search: str = "with a name describe one, with any other word search for it",
) -> Any:
    parser = Parser(verb, f"List the {what}; {search}.")
    parser.add_argument("query", nargs="?", metavar="QUERY|NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse(arguments)


def _describe_env(facts: dict[str, Any]) -> str:
    names = ("adapted", "twin", "class", "observation_space", "action_space", "max_episode_steps", "reward_threshold")
    labels = [label.lower().replace(" ", "_") for label in LABELS]
    lines = [wrapped(f"{facts['id']} ({facts['group']}): {facts['description']}"), ""]
    for name in (*names, *labels, "picture"):
        if facts.get(name) is not None:
            lines.append(beside(name.replace("_", " "), str(facts[name]), 20))
    if facts["parameters"]:
        lines += ["", "parameters (--env.kwargs.NAME VALUE), and their defaults:"]
        for name, parameter in facts["parameters"].items():
            lines.append(beside(f"  {name} [{parameter['default']}]", parameter["help"], 32))
    return "\n".join(lines)


def _describe_agent(name: str, as_json: bool) -> str:
    spec, config = agent_spec(name), agent_config_class(name)
    if as_json:
        return json.dumps({"name": name, "description": spec.description, "schema": config.model_json_schema()})
    return "\n".join(
        [
            wrapped(f"{name}: {spec.description}"),
            "",
            "options, and their defaults:",
            *describe_options(config, prefix="agent."),
        ]
    )
