"""``rltrain envs`` and ``rltrain agents``: what there is."""

from __future__ import annotations

import json

from rltrain.cli.options import Parser, describe_options
from rltrain.errors import ConfigError
from rltrain.registry import agent_config_class, agent_spec, agent_specs, env_parameters, env_spec, env_specs, make_env


def envs(arguments: list[str]) -> int:
    """Lists environments, or describes the one that is named."""
    return _list("envs", arguments)


def agents(arguments: list[str]) -> int:
    """Lists agents, or describes the one that is named."""
    return _list("agents", arguments)


def _list(verb: str, arguments: list[str]) -> int:
    what = "environments" if verb == "envs" else "agents"
    parser = Parser(verb, f"List the {what}; with a name describe one, with any other word search for it.")
    parser.add_argument("query", nargs="?", metavar="QUERY|NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)
    describe, specs = (_describe_env, env_specs()) if verb == "envs" else (_describe_agent, agent_specs())
    if parsed.query in specs:
        print(describe(parsed.query, parsed.json))
        return 0
    word = (parsed.query or "").lower()
    found = {name: spec.description for name, spec in specs.items() if word in f"{name} {spec.description}".lower()}
    if not found:
        finder = env_spec if verb == "envs" else agent_spec
        finder(parsed.query)  # raises, with the nearest name
        raise ConfigError(f"Nothing matches '{parsed.query}'.", f"Run 'rltrain {verb}' for the list.")
    if parsed.json:
        print(json.dumps(found))
    else:
        width = max(map(len, found)) + 2
        print("\n".join(f"{name:<{width}}{line}" for name, line in found.items()))
    return 0


def _describe_env(name: str, as_json: bool) -> str:
    spec, env = env_spec(name), make_env(name)
    facts = {
        "id": name,
        "description": spec.description,
        "observation_space": str(env.full_observation_space),
        "action_space": str(env.action_space),
        "max_episode_steps": spec.max_episode_steps,
        "reward_threshold": spec.reward_threshold,
        "class": str(spec.entry_point),
        "parameters": env_parameters(name),
    }
    if as_json:
        return json.dumps(facts, default=str)
    lines = [f"{key.replace('_', ' '):<20}{value}" for key, value in facts.items() if key != "parameters"]
    lines += ["", "parameters (--env.kwargs.NAME VALUE), and their defaults:"]
    lines += [f"  {key:<18}{value}" for key, value in env_parameters(name).items()]
    documentation = type(env).__doc__
    return "\n".join([*lines, "", documentation.strip()] if documentation else lines)


def _describe_agent(name: str, as_json: bool) -> str:
    spec, config = agent_spec(name), agent_config_class(name)
    if as_json:
        return json.dumps({"name": name, "description": spec.description, "schema": config.model_json_schema()})
    return "\n".join(
        [f"{name}: {spec.description}", "", "options, and their defaults:", *describe_options(config, prefix="agent.")]
    )
