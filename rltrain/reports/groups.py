"""Groups of runs that are equal in everything but the seed, with labels that say what differs between them."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rltrain.errors import plain
from rltrain.runs.summary import RunSummary

LONGEST_VALUE = 40
MOST_NAMED = 4
"""Settings that a label names; ``rltrain compare`` lists all."""
MISSING, ABSENT = "none", "-"
"""How no value is written, and a setting that an agent does not have."""


@dataclass(frozen=True)
class Group:
    """Runs of one agent in one environment that are equal in everything but the seed.

    Attributes:
        label: The agent, and the settings by which it differs from other groups, on one line.
        runs: The runs, at least one.
    """

    label: str
    runs: Sequence[RunSummary]


def group_runs(runs: Iterable[RunSummary]) -> dict[str, list[Group]]:
    """The groups of runs by environment.

    Groups in several environments that would be called the same have the same label. If two runs of a group have the
    same seed, or were made by different versions, a warning says so.
    """
    equal: dict[tuple[str, str, str], list[RunSummary]] = defaultdict(list)
    for run in runs:
        equal[run.env, run.agent, _key(settings_of(run))].append(run)
    rivals: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for (env, agent, _), members in equal.items():
        rivals[agent][env].append(settings_of(members[0]))
    differ = {agent: _telling(list(by_env.values())) for agent, by_env in rivals.items()}
    groups: dict[str, list[Group]] = defaultdict(list)
    for (env, agent, _), members in equal.items():
        label = _label(agent, settings_of(members[0]), differ[agent])
        namesakes = sum(group.label.startswith(label) for group in groups[env])  # of what has no room in a label
        group = Group(f"{label} ({namesakes + 1})" if namesakes else label, members)
        groups[env].append(group)
        _warn_of_mixtures(group, env)
    return dict(groups)


def settings_of(run: RunSummary) -> dict[str, Any]:
    """The settings of a run apart from its seed."""
    return {name: value for name, value in run.settings.items() if name != "seed"}


def setting_text(settings: Mapping[str, Any], name: str) -> str:
    """The value of a setting in few characters; ``-`` where there is no such setting."""
    return value_text(settings[name]) if name in settings else ABSENT


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of settings that are not equal in all of these, in the order in which they come."""
    names = dict.fromkeys(name for each in settings for name in each)
    return [name for name in names if len({_key(each.get(name)) for each in settings}) > 1]


def value_text(value: Any) -> str:
    """The value of a setting in few characters."""
    if value is None:
        return MISSING
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else _key(value)
    text = " ".join(plain(text).split())
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _telling(rivals: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """The names of settings that are not equal among the groups of an environment.

    The first :data:`MOST_NAMED` are those that tell most groups apart: others often change along with them.
    """
    rest = sorted({name for groups in rivals for name in differing(groups)})
    named: list[str] = []
    alike = [list(groups) for groups in rivals]
    while rest and len(named) < MOST_NAMED:
        best = max(rest, key=lambda name: sum(len(_parted(groups, name)) for groups in alike))
        alike = [part for groups in alike for part in _parted(groups, best)]
        named.append(best)
        rest.remove(best)
    return [*sorted(named), *rest]


def _parted(groups: Sequence[Mapping[str, Any]], name: str) -> list[list[Mapping[str, Any]]]:
    """Groups by their value of a setting."""
    parts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for settings in groups:
        parts[_key(settings.get(name))].append(settings)
    return list(parts.values())


def _label(agent: str, settings: Mapping[str, Any], names: Sequence[str]) -> str:
    parts = [
        f"{name.removeprefix('agent.').removeprefix('policy_kwargs.')} {value_text(settings.get(name))}"
        for name in names[:MOST_NAMED]
    ]
    count = len(names) - MOST_NAMED
    more = [f"{count} more setting{'s' if count > 1 else ''}"] if count > 0 else []
    return plain(", ".join([agent, *parts, *more]))


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _warn_of_mixtures(group: Group, env: str) -> None:
    seeds = [run.seed for run in group.runs]
    what = f"The group '{group.label}' in '{env}'"
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1 and seed is not None}):
        warnings.warn(f"{what} has several runs with seed {', '.join(map(str, twice))}.", stacklevel=4)
    for name, made_by in (("commits", _commit), ("versions of torch", _torch)):
        if len(found := {made_by(run) for run in group.runs if run.metadata}) > 1:
            warnings.warn(f"{what} was made with {len(found)} {name}: {', '.join(sorted(found))}.", stacklevel=4)


def _commit(run: RunSummary) -> str:
    return str(run.metadata.get("git_commit"))[:8]


def _torch(run: RunSummary) -> str:
    versions = run.metadata.get("versions")
    return str(versions.get("torch")) if isinstance(versions, Mapping) else "unknown"
