"""The description of an environment, collected from its registration, its class and its docstring."""

from __future__ import annotations

import inspect
import re
from contextlib import closing
from importlib.resources import files
from typing import Any

from rltrain.make import env_parameters, make_env, make_vec
from rltrain.registry import EnvSpec, env_class, env_spec, resolve, twin_of

LABELS = ("Observation", "Action", "Reward", "Episode end", "Source", "Baseline")
"""The labels in the docstring of an environment's class, each at the beginning of a line."""


def describe_env(id: str) -> dict[str, Any]:
    """Everything ``rltrain envs ID`` tells.

    Returns:
        ``id group description class observation_space action_space max_episode_steps reward_threshold``, the
        labelled lines of the docstring (``observation``, ..., ``episode_end``), ``parameters`` by name with
        ``default`` and ``help``, and ``picture``, the path of a picture or None; an adapted environment
        also has ``adapted`` and, where there is one, ``twin``.

    Raises:
        ConfigError: There is no such environment.
    """
    spec = env_spec(id)
    if spec.vectorizer:
        return _describe_adapted(spec)
    env = make_env(spec.id)
    documentation = inspect.getdoc(env_class(id)) or ""
    helps = arguments_of(documentation)
    defaults = {**env_parameters(id), **spec.kwargs}
    entry = spec.entry_point
    return {
        "id": spec.id,
        "group": spec.group,
        "description": spec.description,
        "observation_space": _one_line(str(env.full_observation_space)),
        "action_space": _one_line(str(env.action_space)),
        "max_episode_steps": spec.max_episode_steps,
        "reward_threshold": spec.reward_threshold,
        **{label.lower().replace(" ", "_"): text for label, text in labelled(documentation).items()},
        "class": entry if isinstance(entry, str) else f"{entry.__module__}:{entry.__qualname__}",
        "picture": picture_path(spec.id),
        "parameters": {name: {"default": default, "help": helps.get(name, "")} for name, default in defaults.items()},
    }


def _describe_adapted(spec: EnvSpec) -> dict[str, Any]:
    """The description of another library's environment, which is made for it."""
    with closing(make_vec(spec.id, 1)) as vec:  # first: it says what is missing
        seen = {
            "observation_space": _one_line(str(vec.single_observation_space)),
            "action_space": _one_line(str(vec.single_action_space)),
        }
    creator = resolve(spec.entry_point)
    described, parameters = spec.description, spec.parameters
    if parameters is None:
        text = (line.strip() for line in (inspect.getdoc(creator) or "").splitlines())
        described = next((line for line in text if line and line[0] not in "#!|<"), described)
        parameters = {
            name: parameter.default
            for name, parameter in inspect.signature(creator).parameters.items()
            if name != "render_mode" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        }
    return {
        "id": spec.id,
        "group": spec.group,
        "description": described,
        "adapted": f"an environment of {spec.group}, stepped through rltrain's adapter",
        "twin": twin_of(spec),
        **seen,
        "max_episode_steps": spec.max_episode_steps,
        "reward_threshold": spec.reward_threshold,
        "class": spec.entry_point if isinstance(spec.entry_point, str) else repr(creator),
        "picture": None,
        "parameters": {name: {"default": default, "help": ""} for name, default in parameters.items()},
    }


def labelled(documentation: str) -> dict[str, str]:
    """The labelled lines of a docstring (see :data:`LABELS`), each with the indented lines that continue it."""
    found = {}
    for label in LABELS:
        match = re.search(rf"^{label}: *(.+(?:\n +\S.*)*)", documentation, re.MULTILINE)
        if match:
            found[label] = _one_line(match[1])
    return found


def arguments_of(documentation: str) -> dict[str, str]:
    """The entries of a docstring's ``Args`` section by name."""
    section = re.search(r"^Args:\n((?: +.*\n?|\n)+)", documentation, re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): *(.+(?:\n {5,}\S.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: _one_line(text) for name, text in entries}


def picture_path(id: str) -> str | None:
    """Where a picture of a built-in environment is, None if there is none."""
    namespace, _, name = id.rpartition("/")
    path = files("rltrain.envs") / "gallery" / f"{name}.png"
    return str(path) if namespace == "rltrain" and path.is_file() else None


def _one_line(text: str) -> str:
    return " ".join(text.split())
