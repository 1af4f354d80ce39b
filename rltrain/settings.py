"""Builds and checks the configuration of a run from shipped files, YAML, the command line and Python."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from rltrain.config import TrainConfig
from rltrain.errors import ConfigError
from rltrain.naming.arguments import GIVE_ONE, is_blank
from rltrain.naming.habits import NOT_OURS, as_python, option_meant, options_of, value_meant
from rltrain.plugins import importer_of, trackers
from rltrain.registry import CONFIGS, AgentSpec, EnvSpec, agent_config_class, agent_specs, spec_of
from rltrain.storage.files import Damaged, read_given, reason
from rltrain.storage.values import from_plain
from rltrain.storage.yaml_text import safe_load

M = TypeVar("M", bound=BaseModel)

YAML_LIMIT = 2**17
"""Most bytes of a YAML file; one of that size takes seconds to read."""

ALIASES = {"n_envs": "num_envs", "n_timesteps": "total_timesteps"}
"""RL Zoo's spellings of our names."""
POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
"""What RL Zoo's ``policy`` says; here the observation space decides."""


def build_config(
    algo: str,
    env: str | type,
    overrides: Mapping[str, Any] | None = None,
    *,
    base: tuple[dict[str, Any], str] | None = None,
) -> tuple[TrainConfig, str]:
    """The configuration of a run: defaults, then the tuned file, then the overrides.

    Args:
        algo: Name of a registered agent.
        env: Environment id, or a class.
        overrides: Nested dict in the shape of :class:`TrainConfig`, RL Zoo's aliases allowed.
        base: Settings to use instead of the tuned file, and the name of their source.

    Returns:
        The configuration, and the source of its defaults in words.

    Raises:
        ConfigError: An unknown agent, environment or key, or a value out of range.
    """
    agent_config = agent_config_class(algo)
    spec = spec_of(env)
    defaults, source = base or tuned_defaults(algo, spec)
    options = dict(spec.options)
    registered = agent_specs()[algo]
    if (
        registered.trainer != AgentSpec.trainer and not registered.learns_from_data
    ):  # of another library, which does these things its own way
        options |= {"rescale_action": False, "action_masks": False}
    given = canonical(dict(overrides or {}))
    check_not_blank(given, TrainConfig)
    check_not_blank(given.get("agent"), agent_config, "agent.")
    data = merge({"env": options}, defaults)
    if isinstance(given.get("data"), str):
        from rltrain.data.environment import recorded_environment

        recorded = recorded_environment(given["data"])
        if recorded is not None and recorded["id"] == spec.id:  # the options that its observations were made with
            data = merge(data, {"env": recorded})
    data = merge(data, given)
    data = merge(data, {"algo": algo, "env": {"id": spec.id}})
    of_agent = [*options_of(agent_config, "agent.")]
    agent = validate(agent_config, data.get("agent", {}), "agent.", also=[*options_of(TrainConfig)])
    config = validate(TrainConfig, {**data, "agent": agent}, also=of_agent)
    check_trackers(config)
    if config.env.rescale_action is None and config.init_from is not None and importer_of(config.init_from):
        # A policy of another library acts in the environment's own bounds.
        config = config.model_copy(update={"env": config.env.model_copy(update={"rescale_action": False})})
    return config, source


def check_not_blank(given: Any, model: type[BaseModel], prefix: str = "") -> None:
    """Refuses blank text, such as a shell gives where a variable is not set, for options that name something.

    Args:
        given: Settings of a new run; those of an old one stay as they are.
        model: What they are of.
        prefix: Prefix of option names in errors.

    Raises:
        ConfigError: One is blank that is not so by default.
    """
    for name, value in given.items() if isinstance(given, Mapping) else ():
        field = model.model_fields.get(name)
        annotation = None if field is None else field.annotation
        if isinstance(value, Mapping) and isinstance(annotation, type) and issubclass(annotation, BaseModel):
            check_not_blank(value, annotation, f"{prefix}{name}.")
        is_text = get_origin(annotation) is not list and str in (annotation, *get_args(annotation))
        if field is not None and is_text and is_blank(value) and field.default != "":
            raise ConfigError(f"{prefix}{name}={value!r} is blank.", GIVE_ONE)


def with_trackers(config: TrainConfig, names: Any) -> TrainConfig:
    """The configuration with other trackers.

    Raises:
        ConfigError: One is not registered, or it is no list of names.
    """
    config = validate(TrainConfig, {**dict(config), "trackers": names})
    check_trackers(config)
    return config


def check_trackers(config: TrainConfig) -> None:
    """Refuses trackers that are not registered, or whose libraries are not installed.

    Raises:
        ConfigError: One is not.
    """
    for name in config.trackers:
        spec = trackers.find(name)
        if spec.missing:
            raise ConfigError(
                f"The tracker '{name}' needs the package {spec.needs}, which is not installed.", f"Run: {spec.missing}"
            )


def tuned_defaults(algo: str, env: EnvSpec) -> tuple[dict[str, Any], str]:
    """The shipped settings for an agent on an environment, and the name of their file.

    The packages of settings of the environment, of the agent and of rltrain are searched in this order. In each of
    them the file is named by the id (``/`` as ``-``), by its namespace (in a plugin's package: by the id without it),
    or, for batched environments, ``default``. Without a file, the agent's own defaults hold, which are
    Stable-Baselines3's.
    """
    agent = agent_specs().get(algo)
    packages = [env.configs, *([agent.configs] if agent is not None else [])]
    namespace, _, bare = env.id.rpartition("/")
    for package in dict.fromkeys([*packages, CONFIGS]):
        try:
            folder = files(package) / algo
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"The settings of '{env.id}' are said to be in '{package}', which cannot be found: {error}.",
                "Mend configs= where it is registered, or install the package again with its files.",
            ) from error
        default = "default" if env.batched else ""
        for name in (env.id, namespace if package == CONFIGS else bare, default):
            name = name.replace("/", "-").replace(":", "-")
            file = folder / f"{name}.yaml"
            if name and file.is_file():
                source = f"{algo}/{name}.yaml" if package == CONFIGS else f"{algo}/{name}.yaml of {package}"
                return canonical(parse_yaml(file.read_text(encoding="utf-8"), source)), source
    return {}, "the agent's own defaults" + ("" if env.batched else ", which are Stable-Baselines3's")


def load_config(path: str | Path) -> dict[str, Any]:
    """Reads a configuration file as a nested dict.

    Raises:
        ConfigError: The file cannot be read or is not a YAML mapping.
    """
    try:
        text = read_given(Path(path), YAML_LIMIT)
    except (OSError, Damaged) as error:
        raise ConfigError(f"The config file '{path}' cannot be read: {reason(error)}.", "Check its path.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """A YAML mapping as a dict; ``name`` is used in the error."""
    data = load_yaml(text, f"'{name}'")
    if not isinstance(data, dict):
        raise ConfigError(f"'{name}' holds no settings.", "A config file is a YAML mapping of option: value.")
    data = {str(key): value for key, value in data.items()}
    env = data.get("env")
    if isinstance(env, dict) and isinstance(env.get("kwargs"), dict):
        data["env"] = {**env, "kwargs": {key: from_plain(value) for key, value in env["kwargs"].items()}}
    return data


def load_yaml(text: str, what: str) -> Any:
    """What a YAML text holds.

    Args:
        text: The text.
        what: What it is, for the error.

    Raises:
        ConfigError: It is not valid YAML.
    """
    try:
        return safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date or number
        mark = getattr(error, "problem_mark", None)
        twice = f": {error.problem}" if type(error) is yaml.MarkedYAMLError else ""
        where = f" in line {mark.line + 1}{twice}" if mark else f": {error}" if isinstance(error, Damaged) else ""
        raise ConfigError(f"{what} is not valid YAML{where}.", "Mend the file.") from error


def canonical(data: dict[str, Any]) -> dict[str, Any]:
    """The same settings with aliases replaced by our names, and a bare environment id made a mapping.

    Raises:
        ConfigError: A setting is given under two names, or ``env`` or ``policy`` is not understood.
    """
    for alias, name in ALIASES.items():
        if alias in data and name in data:
            raise ConfigError(f"'{alias}' and '{name}' are both given.", "They are the same: give one of them.")
    data = {ALIASES.get(key, key): value for key, value in data.items()}
    if isinstance(data.get("env"), str):
        data["env"] = {"id": data["env"]}
    if not isinstance(data.get("env", {}), Mapping):
        raise ConfigError(f"env={data['env']!r} does not fit.", "Give an id, or a mapping of id and kwargs.")
    if "policy" in data and (policy := data.pop("policy")) not in POLICIES:
        raise ConfigError(f"There is no policy '{policy}'.", f"It is one of {', '.join(POLICIES)}, or left out.")
    if "frame_stack" in data:
        data = merge({"env": {"frame_stack": data.pop("frame_stack")}}, data)
    if isinstance(data.get("normalize"), bool):
        both = dict.fromkeys(("normalize_obs", "normalize_reward"), data.pop("normalize"))
        data = merge({"agent": both}, data)
    return data


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over`` laid on top, nested mappings merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged


def validate(model: type[M], data: Any, prefix: str = "", also: Sequence[str] = ()) -> M:
    """Checks data against a model.

    Args:
        model: The model.
        data: The data.
        prefix: Prefix of option names in errors.
        also: Whole names of options to suggest for an unknown one beside those of the model.

    Raises:
        ConfigError: The data does not fit; names the first fault, and the nearest key for an unknown one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(error, model, prefix, also) from error


def _explain(error: ValidationError, model: type[BaseModel], prefix: str, also: Sequence[str]) -> ConfigError:
    # An unknown key goes first: it may be why another is missing.
    first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"] if _is_field(part)]
    where = prefix + ".".join(path) if path else prefix.removesuffix(".")
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        listing = f"Known here: {', '.join(known)}." if len(known) <= 14 else "Run 'rltrain train --help' for the list."
        if meant := option_meant(where, [*options_of(model, prefix), *also]):
            listing = f"Did you mean '{meant}'? From Python: {as_python(meant)}"
        return ConfigError(f"There is no option '{where}'.", NOT_OURS.get(path[-1], listing))
    if first["type"] == "missing":
        return ConfigError(f"The option '{where}' is missing.", "Give it on the command line or in the config file.")
    given = reprlib.repr(first["input"])
    if first["type"] == "model_type":
        example = f"{where}.{_fields_at(model, path)[0]}"
        fix = value_meant(where, first["input"]) or f"Give one of its options, such as {example}."
        return ConfigError(f"{where}={given} does not fit.", fix)
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    fix = value_meant(where, first["input"]) or f"Give {where} another value."
    return ConfigError(f"{where}={given} does not fit: {message}.", fix)


def _is_field(part: int | str) -> bool:
    """Tells keys from the names of union branches that pydantic puts into a location."""
    return isinstance(part, int) or (not any(mark in part for mark in "[(") and part not in ("int", "float", "str"))


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        annotation: Any = model.model_fields[part].annotation if part in model.model_fields else None
        kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def to_yaml(config: BaseModel) -> str:
    """The configuration as a YAML file that ``rltrain train --config`` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
