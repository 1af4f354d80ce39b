"""What was typed for an option, as a value: YAML, except that text stays as it was typed."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from rltrain.errors import ConfigError
from rltrain.make import text_parameters
from rltrain.naming.environments import typed_env
from rltrain.registry import agent_config_class, find_env

NONE = ("none", "null")


class Kind(NamedTuple):
    """What an option takes.

    Attributes:
        is_text: Whether it is text, so that ``on``, ``2024`` and ``1e3`` are meant as they stand.
        may_be_none: Whether ``none`` means that there is none.
    """

    is_text: bool = False
    may_be_none: bool = True


def read(text: str, kind: Kind = Kind()) -> Any:  # noqa: B008 (it is a tuple)
    """The value that was typed for an option of a kind."""
    if kind.may_be_none and text.lower() in NONE:
        return None
    value = text if kind.is_text else parse_value(text)
    return text if value is None and not kind.may_be_none else value


def parse_value(text: str) -> Any:
    """Reads a typed value as YAML: ``3``, ``1e6``, ``true``, ``none``, ``[64, 64]``, text."""
    if text.lower() in NONE:
        return None
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text
    if isinstance(value, bool | int | float | list | dict):
        return value
    try:
        return float(text)  # YAML takes 1e6 for text
    except ValueError:
        return text


def kinds_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Kind]]:
    """The kinds of all fields of a model and of those nested in it, by dotted name."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from kinds_of(annotation, f"{prefix}{name}.")
            continue
        types_ = {*_types(annotation)}
        if types_ <= {int, float, str, bool, type(None)}:
            yield prefix + name, Kind(types_ <= {str, type(None)}, type(None) in types_)


def _types(annotation: Any) -> Iterator[Any]:
    """The types that a field may have."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _types(part)
    elif origin is typing.Annotated:
        yield from _types(typing.get_args(annotation)[0])
    elif origin is typing.Literal:
        yield from map(type, typing.get_args(annotation))
    else:
        yield annotation


def alternatives(model: type[BaseModel], name: str) -> list[str]:
    """The words that a field takes, if it takes only some: ``true`` and ``false``, or those of a choice."""
    field = model.model_fields.get(name)
    annotation = None if field is None else field.annotation
    parts = [annotation, *typing.get_args(annotation)]
    literals = [part for part in parts if typing.get_origin(part) is typing.Literal]
    choices = [str(word) for part in literals for word in typing.get_args(part)]
    return choices or (["true", "false"] if bool in parts else [])


def kinds_for(algo: Any, env: Any) -> Mapping[str, Kind]:
    """The kinds of the options of an agent and the arguments of an environment, as far as they exist."""
    kinds: dict[str, Kind] = {}
    with suppress(ConfigError):  # whoever uses the name says so
        kinds |= kinds_of(agent_config_class(str(algo)), "agent.")
    return {**kinds, **argument_kinds(env)}


def argument_kinds(env: Any) -> dict[str, Kind]:
    """The constructor arguments of an environment that are text; none where it is not known here.

    Args:
        env: An id, or a run folder, whose environment is looked up without importing anything.
    """
    try:
        name = _env_of_run(Path(env)) if isinstance(env, str) and Path(env).exists() else typed_env(str(env))
        if ":" not in name and find_env(name) is None:
            return {}
        return {f"env.kwargs.{argument}": Kind(True, False) for argument in text_parameters(name)}
    except (ConfigError, OSError, TypeError, ValueError):
        return {}


def _env_of_run(path: Path) -> str:
    """The id in a run folder's config; empty if there is none."""
    home = next((each for each in (path, *path.parents[:2]) if (each / "config.yaml").is_file()), None)
    if home is None:
        return ""
    from rltrain.settings import YAML_LIMIT, parse_yaml
    from rltrain.storage.files import read_text

    env = parse_yaml(read_text(home / "config.yaml", YAML_LIMIT), "config.yaml").get("env")
    name = env.get("id") if isinstance(env, dict) else env
    return name if isinstance(name, str) and ":" not in name else ""
