"""What trackers are told in words at the start of a session: how it was started, and what the environment is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from rltrain.describe import LABELS, describe_env, labelled
from rltrain.errors import RLTrainError
from rltrain.registry import env_class, spec_of
from rltrain.runs.machine import describe_machine
from rltrain.training.setup import Setup
from rltrain.vec import own_spaces


def session_text(step: int | None) -> str:
    """How this session was started, as a table in Markdown.

    Args:
        step: The step that it resumes at; None for a new run.
    """
    facts = describe_machine()
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return _table(
        {
            "session": "new run" if step is None else f"resumed at step {step:,}",
            "started": facts["started"],
            "command": _code(facts["command"]),
            "commit of this folder": _code(facts["git_commit"] or "not in a git checkout"),
            "commit of rltrain": _code(facts["rltrain_commit"] or "installed as a package"),
            "versions": versions,
            "platform": f"{facts['platform']}, {facts['cpus']} CPUs",
        }
    )


def environment_text(setup: Setup) -> str:
    """What the environment is, as a table in Markdown: spaces, limits, rules, source, and what the run changes."""
    spec, env = spec_of(setup.request.env), setup.env
    seen, taken = own_spaces(env)
    facts: dict[str, Any] = {
        "environment": f"{setup.config.env.id}: {spec.description}" if spec.description else setup.config.env.id,
        "observation space": _code(seen),
        "action space": _code(taken),
        "time limit": getattr(env, "max_episode_steps", None),
        "solved at": spec.reward_threshold,
        **_rules(setup.request.env),
    }
    changed = setup.config.env.given()
    facts |= {"changed by this run": ", ".join(f"{name} = {value}" for name, value in changed.items()) or "nothing"}
    return _table({name: value for name, value in facts.items() if value is not None})


def _rules(env: str | type) -> dict[str, str]:
    """The labelled lines of an environment of tensors, by label."""
    if spec_of(env).vectorizer:
        return {}
    try:
        if isinstance(env, str):
            described = describe_env(env)
            return {label: described[key] for label in LABELS if (key := label.lower().replace(" ", "_")) in described}
        return labelled(inspect.getdoc(env_class(env)) or "")
    except RLTrainError:
        return {}


def _code(value: Any) -> str:
    return f"`{' '.join(str(value).replace('`', chr(39)).split())}`"


def _table(facts: Mapping[str, Any]) -> str:
    """A table of two columns."""
    rows = [f"| {name} | {' '.join(str(value).replace('|', chr(92) + '|').split())} |" for name, value in facts.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])
