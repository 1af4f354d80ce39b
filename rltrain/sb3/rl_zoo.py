"""Reads entries of RL Zoo's YAML files as settings. Python expressions in them are read as data, never run.

A file maps environment ids to entries; values such as ``"dict(net_arch=[64, 64], activation_fn=nn.ReLU)"`` are
expressions that RL Zoo evaluates. Here their syntax tree is read: numbers, text, lists, tuples, dicts and ``dict(...)``
of such, and a dotted name for a class. Anything else is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rltrain.config import TrainConfig
from rltrain.errors import ConfigError, did_you_mean
from rltrain.settings import ALIASES, canonical, load_config

SDE = ("use_sde", "sde_sample_freq", "use_sde_at_warmup")
FOR_THE_RUN = {*TrainConfig.model_fields, *ALIASES, "frame_stack"} - {"algo", "env", "agent"}
OUTSIDE = {  # what an entry may ask for beside hyperparameters and rltrain does not have
    "env_wrapper": "wrapper",
    "vec_env_wrapper": "wrapper",
    "callback": "callback",
    "replay_buffer_class": "replay buffer",
    "replay_buffer_kwargs": "replay buffer",
    "rollout_buffer_class": "rollout buffer",
    "monitor_kwargs": "monitor",
}


def zoo_settings(path: str | Path, env_id: str, agent_options: Iterable[str]) -> dict[str, Any]:
    """The settings of an environment in RL Zoo's file for an algorithm, with one environment unless it says more.

    Args:
        path: The file, such as ``ppo.yml``.
        env_id: Looked up as it is, then without its namespace.
        agent_options: Names of the agent's options.

    Returns:
        Settings in the shape of :class:`~rltrain.config.TrainConfig`.

    Raises:
        ConfigError: There is no entry, an expression computes something, or the entry asks for something that rltrain
            does not have.
    """
    entries = load_config(path)
    name = next((name for name in (env_id, env_id.rpartition("/")[2]) if name in entries), None)
    if name is None:
        known = [key for key, entry in entries.items() if isinstance(entry, Mapping)]
        raise ConfigError(f"'{path}' has no entry for '{env_id}'.", did_you_mean(env_id, known, "Look into the file."))
    entry = entries[name]
    if not isinstance(entry, Mapping):
        raise ConfigError(f"The entry '{name}' in '{path}' holds no settings.", "It should map options to values.")
    values = {str(key): read_value(str(key), value) for key, value in entry.items()}
    return _as_settings(values, set(agent_options), f"the entry '{name}' in '{path}'")


def _as_settings(values: dict[str, Any], options: set[str], entry: str) -> dict[str, Any]:
    run: dict[str, Any] = {"num_envs": 1} if not values.keys() & {"n_envs", "num_envs"} else {}
    agent: dict[str, Any] = {}
    if "n_sampled_goal" in options:
        values = _with_hindsight(values, entry)
    for key, value in values.items():
        if key in OUTSIDE and key not in options:
            if value and value != 1:
                raise ConfigError(
                    f"There is no {OUTSIDE[key]} like {key}={value!r}, which {entry} asks for.",
                    "Copy the file and leave that out.",
                )
        elif key == "normalize":
            both = value if isinstance(value, Mapping) else {"norm_obs": value, "norm_reward": value}
            if more := both.keys() - {"norm_obs", "norm_reward", "gamma"}:
                raise ConfigError(f"There is no {min(more)} of normalize, which {entry} sets.", "Leave it out.")
            agent |= {f"normalize_{what}": bool(both.get(f"norm_{what}", True)) for what in ("obs", "reward")}
        elif key == "env_kwargs":
            run["env"] = {"kwargs": value}
        elif key in FOR_THE_RUN or key == "policy":
            run[key] = value
        elif key in SDE and key not in options:
            if value not in (False, -1):
                raise ConfigError(
                    f"This agent has no gSDE, and {entry} asks for it with {key}={value!r}.",
                    "Train sb3/ppo, sb3/sac or another agent of Stable-Baselines3 that has it.",
                )
        elif key in options:
            agent[key] = value
        else:
            fix = did_you_mean(key, options, "Copy the file and leave that out.")
            raise ConfigError(f"The agent has no option '{key}', which {entry} sets.", fix)
    return canonical({**run, "agent": agent})


def _with_hindsight(values: dict[str, Any], entry: str) -> dict[str, Any]:
    """An entry with ``HerReplayBuffer`` as our own option for it.

    Raises:
        ConfigError: It asks for another strategy than to take goals reached later.
    """
    if values.get("replay_buffer_class") != "HerReplayBuffer":
        return values
    kwargs = dict(values.get("replay_buffer_kwargs") or {})
    number, strategy = kwargs.pop("n_sampled_goal", 4), kwargs.pop("goal_selection_strategy", "future")
    kwargs.pop("copy_info_dict", None)  # compute_reward is asked without infos
    if strategy != "future" or kwargs:
        what = f"goal_selection_strategy={strategy!r}" if strategy != "future" else f"{min(kwargs)}"
        raise ConfigError(f"There is no {what} of HerReplayBuffer, which {entry} asks for.", "Leave it out.")
    others = {key: value for key, value in values.items() if not key.startswith("replay_buffer_")}
    return {**others, "n_sampled_goal": number}


def read_value(key: str, value: Any) -> Any:
    """A value of an entry: an expression in text as the data it writes down, anything else as it is.

    Raises:
        ConfigError: The expression computes something.
    """
    if not isinstance(value, str) or not any(mark in value for mark in "({["):
        return value
    try:
        return _literal(ast.parse(value.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigError(
            f"{key}={value!r} is more than data, and is not evaluated.",
            "Write it with numbers, text, lists and dict(...) alone.",
        ) from None


def _literal(node: ast.expr) -> Any:
    """The data that a syntax tree writes down.

    Raises:
        ValueError: It is more than that.
    """
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List() | ast.Tuple():
            return [_literal(each) for each in node.elts]
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            return {_text(key): _literal(each) for key, each in pairs}
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return {_text(each.arg): _literal(each.value) for each in keywords}
        case ast.Attribute(value=ast.Name() | ast.Attribute()):
            return ast.unparse(node)  # nn.ReLU: the name of a class
    raise ValueError(ast.unparse(node))


def _text(key: Any) -> str:
    """The name of an entry of a dict; none stands before ``**``."""
    if isinstance(key, ast.Constant):
        key = key.value
    if not isinstance(key, str):
        raise ValueError("not a name")
    return key
