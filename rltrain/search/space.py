"""Search spaces: which settings a sweep varies, and between which values. Reading one needs no Optuna.

A space is a YAML file with an entry for each setting, by its dotted name::

    num_envs: {categorical: [8, 16, 32]}
    agent.learning_rate: {log: [1e-5, 1e-2]}                  # a number, uniform in its logarithm
    agent.gae_lambda: {uniform: [0.8, 1.0]}
    agent.n_epochs: {int: [1, 20]}                            # both ends included; int_log for the logarithm
    agent.use_sde: {categorical: [true, false]}
    agent.sde_sample_freq: {categorical: [4, 8], when: {agent.use_sde: true}}     # else the default
    agent.clip_range: {uniform: [0.1, 0.4], linear: true}     # falls to 0 over the run: lin_0.2
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from rltrain.errors import ConfigError, did_you_mean
from rltrain.registry import CONFIGS, agent_spec
from rltrain.settings import load_config, parse_yaml

RANGES = ("uniform", "log", "int", "int_log")
KINDS = (*RANGES, "categorical")
FOLDER = "spaces"
"""The folder of shipped spaces in a package of settings."""


class Trial(Protocol):
    """What a space needs of a trial: Optuna's ``Trial`` is one."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        ...


@dataclass(frozen=True)
class Parameter:
    """A setting that a sweep varies.

    Attributes:
        name: Its dotted name.
        kind: One of :data:`KINDS`.
        values: The lowest and the highest value, or the choices.
        when: The values that other parameters must have for this one to count, by name.
        linear: Whether the value falls linearly to 0 over the run.
    """

    name: str
    kind: str
    values: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    linear: bool = False

    def draw(self, trial: Trial) -> Any:
        """A value for a trial, as Optuna keeps it."""
        if self.kind == "categorical":
            return trial.suggest_categorical(self.name, [label(value) for value in self.values])
        suggest = trial.suggest_int if self.kind.startswith("int") else trial.suggest_float
        return suggest(self.name, *self.values, log=self.kind.endswith("log"))

    def setting(self, drawn: Any) -> Any:
        """The value of the setting for what was drawn.

        Raises:
            ValueError: It is none that can be drawn, as in a study that somebody else made.
        """
        if self.kind == "categorical":
            known = [value for value in self.values if label(value) == drawn]
            if not known:
                raise ValueError(f"{drawn!r} is no choice of '{self.name}'")
            drawn = known[0]
        elif not isinstance(drawn, int | float) or not math.isfinite(drawn):
            raise ValueError(f"{drawn!r} is no number for '{self.name}'")
        return f"lin_{drawn}" if self.linear else drawn

    def counts(self, drawn: Mapping[str, Any]) -> bool:
        """Whether it counts beside what was drawn for the parameters before it."""
        return all(drawn.get(name, self) in map(label, allowed) for name, allowed in self.when.items())


def label(value: Any) -> Any:
    """A choice as Optuna can keep it: lists and mappings as text."""
    return json.dumps(value) if isinstance(value, list | dict) else value


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        parameters: What is varied; a condition names only parameters before.
        source: Where it is from, in words.
        text: The file.
    """

    parameters: tuple[Parameter, ...]
    source: str
    text: str

    def draw(self, trial: Trial) -> dict[str, Any]:
        """Values for a trial by dotted name, as Optuna keeps them; without those whose conditions do not hold."""
        drawn: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.counts(drawn):
                drawn[parameter.name] = parameter.draw(trial)
        return drawn

    def settings(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Drawn values as nested settings; names that the space does not have are left out."""
        known = {parameter.name: parameter for parameter in self.parameters}
        flat = {name: known[name].setting(value) for name, value in drawn.items() if name in known}
        nested: dict[str, Any] = {}
        for name, value in flat.items():
            *path, last = name.split(".")
            branch = nested
            for part in path:
                branch = branch.setdefault(part, {})
            branch[last] = value
        return nested

    def corners(self) -> Iterator[dict[str, Any]]:
        """Drawn values to check the space by: the extremes or choices of each parameter, with what it depends on."""
        met: dict[str, dict[str, Any]] = {}
        for parameter in self.parameters:
            needed: dict[str, Any] = {}
            for name, allowed in parameter.when.items():
                needed |= {**met[name], name: label(allowed[0])}
            met[parameter.name] = needed
            for value in parameter.values:
                yield {**needed, parameter.name: label(value)}


def read_space(path: str | Path) -> Space:
    """The space in a file.

    Raises:
        ConfigError: It cannot be read, or says something that is not understood.
    """
    return parse_space(load_config(path), str(path))


def shipped_space(algo: str) -> Space:
    """The space that comes with an agent.

    Raises:
        ConfigError: None does.
    """
    name = f"{algo.replace('/', '-')}.yaml"
    for package in dict.fromkeys((agent_spec(algo).configs, CONFIGS)):
        file = files(package) / FOLDER / name
        if file.is_file():
            source = f"{FOLDER}/{name}" if package == CONFIGS else f"{FOLDER}/{name} of {package}"
            return parse_space(parse_yaml(file.read_text(encoding="utf-8"), source), source)
    raise ConfigError(f"No search space comes with '{algo}'.", "Write one, and name it with --space FILE.yaml.")


def parse_space(data: Mapping[str, Any], source: str) -> Space:
    """A space from what its file holds.

    Raises:
        ConfigError: Something in it is not understood; names the entry.
    """
    if not data:
        raise ConfigError(f"'{source}' varies nothing.", "Name a setting: agent.learning_rate: {log: [1e-5, 1e-2]}")
    parameters: dict[str, Parameter] = {}
    for name, entry in data.items():
        try:
            parameters[name] = _parameter(name, entry, parameters)
        except ValueError as error:
            raise ConfigError(f"'{name}' in '{source}': {error}.", _example(name)) from error
    return Space(tuple(parameters.values()), source, json.dumps(data, sort_keys=False, default=str))


def _example(name: str) -> str:
    return f"For example: {name}: {{log: [1e-5, 1e-2]}}, or {{categorical: [0.9, 0.99]}}; kinds: {', '.join(KINDS)}."


def _parameter(name: str, entry: Any, before: Mapping[str, Parameter]) -> Parameter:
    if not isinstance(entry, dict):
        raise ValueError(f"{entry!r} is no mapping of a kind to its values")
    kinds = [key for key in entry if key in KINDS]
    others = [str(key) for key in entry if key not in (*KINDS, "when", "linear")]
    if others:
        raise ValueError(f"'{others[0]}' is not known there. {did_you_mean(others[0], KINDS, '')}".rstrip(" .?'"))
    if len(kinds) != 1:
        raise ValueError("it needs one kind of values" if not kinds else f"it has {' and '.join(kinds)}, one too many")
    (kind,) = kinds
    values = entry[kind]
    if not isinstance(values, list) or len(values) < 2:
        raise ValueError(f"{kind}: {values!r} is no list of {'choices' if kind == 'categorical' else 'two numbers'}")
    linear = entry.get("linear", False)
    if linear not in (True, False):
        raise ValueError(f"linear: {linear!r} is neither true nor false")
    values = _range(kind, values) if kind in RANGES else _choices(values)
    if linear and not all(isinstance(value, int | float) for value in values):
        raise ValueError("linear needs numbers")
    return Parameter(name, kind, values, _conditions(entry.get("when", {}), before), linear)


def _range(kind: str, values: list[Any]) -> tuple[Any, Any]:
    try:
        low, high = (float(value) for value in values)  # YAML takes 1e-5 for text
    except (TypeError, ValueError):
        raise ValueError(f"{kind}: {values!r} is no list of two numbers") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{low:g} is not below {high:g}")
    if kind.endswith("log") and low <= 0:
        raise ValueError(f"{low:g} has no logarithm")
    if not kind.startswith("int"):
        return low, high
    if not (low.is_integer() and high.is_integer()):
        raise ValueError(f"{values!r} are not whole numbers")
    return int(low), int(high)


def _choices(values: list[Any]) -> tuple[Any, ...]:
    labels = [(type(value), label(value)) for value in values]
    if twice := next((value for value in values if labels.count((type(value), label(value))) > 1), None):
        raise ValueError(f"{twice!r} is there twice")
    return tuple(values)


def _conditions(when: Any, before: Mapping[str, Parameter]) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, dict):
        raise ValueError(f"when: {when!r} is no mapping of another setting to its value")
    conditions = {}
    for name, allowed in when.items():
        other = before.get(name)
        if other is None or other.kind != "categorical":
            raise ValueError(f"when: '{name}' is no categorical entry above it")
        allowed = tuple(allowed) if isinstance(allowed, list) and allowed not in other.values else (allowed,)
        if wrong := [value for value in allowed if value not in other.values]:
            raise ValueError(f"when: '{name}' is never {wrong[0]!r}")
        conditions[name] = allowed
    return conditions
