"""How installed packages are found, and what they may bring beside environments and agents.

A registration is a few strings: what is behind it is imported when it is first used. What is built in registers
exactly as a plugin does: by an entry point in one of :data:`GROUPS` that names a function to call.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, TypeVar

from rltrain.errors import ConfigError, did_you_mean

GROUPS = ("rltrain.envs", "rltrain.agents", "rltrain.trackers", "rltrain.exporters", "rltrain.verbs")
"""The groups of entry points; any of their functions may register anything."""

_discovered = False


class Spec(Protocol):
    """What is known of a registered thing."""

    @property
    def name(self) -> str:
        """What it is asked for by."""
        ...

    @property
    def entry_point(self) -> str | type:
        """``module:name``, or the thing itself."""
        ...


S = TypeVar("S", bound=Spec)


class Table(dict[str, S]):
    """What is registered of one kind, by name, in the order of registration.

    Args:
        kind: What it is called in errors.
        listing: What to do for a list of them, as a sentence.
    """

    def __init__(self, kind: str, listing: str = "") -> None:
        super().__init__()
        self.kind = kind
        self.listing = listing

    def add(self, spec: S) -> None:
        """Registers something. What is registered again, as in a notebook, takes its own place.

        Raises:
            ConfigError: The name is taken by another entry point.
        """
        known, path = self.get(spec.name), path_of(spec.entry_point)
        if known is not None and path_of(known.entry_point) != path:
            raise ConfigError(
                f"The {self.kind} '{spec.name}' is registered twice: by {path_of(known.entry_point)} and by {path}.",
                "Choose another name for one of them.",
            )
        self[spec.name] = spec

    def find(self, name: str) -> S:
        """What is registered under a name.

        Raises:
            ConfigError: There is nothing.
        """
        discover()
        if name not in self:
            listing = self.listing or f"Known: {', '.join(self) or 'none'}."
            raise ConfigError(f"There is no {self.kind} '{name}'.", did_you_mean(name, self, listing))
        return self[name]


@dataclass(frozen=True)
class TrackerSpec:
    """A registered tracker.

    Attributes:
        name: What is typed after ``--trackers``.
        entry_point: ``module:Class`` of a :class:`~rltrain.tracker.Tracker`, or the class itself.
        description: One line for ``rltrain trackers``.
        display: Whether it shows progress to whoever waits for it: ``--no-progress`` leaves it out, and there is one
            for all runs that train together.
    """

    name: str
    entry_point: str | type
    description: str = ""
    display: bool = False


@dataclass(frozen=True)
class ExporterSpec:
    """A registered format of policies.

    Attributes:
        name: What is typed after ``rltrain export RUN --to``.
        entry_point: ``module:function`` that is called with the run folder, where to write (None for a place of its own
            choice) and ``checkpoint=``. It returns a dict: by file that it wrote, how to use that.
        description: One line for ``rltrain export --help``.
    """

    name: str
    entry_point: str
    description: str = ""


@dataclass(frozen=True)
class ImporterSpec:
    """A registered reader of what other libraries save, for ``--init-from``.

    Attributes:
        name: The ending of the file's name, such as ``.zip``.
        entry_point: ``module:function`` that is called with the agent to start and the file, and with ``algo=`` and
            ``env_id=``.
    """

    name: str
    entry_point: str


@dataclass(frozen=True)
class VerbSpec:
    """A registered verb of the command line.

    Attributes:
        name: What is typed after ``rltrain``.
        entry_point: ``module:function`` that is called with the arguments behind the verb, a list of str, and returns
            the exit code; None counts as 0.
        help: One line for ``rltrain --help``.
    """

    name: str
    entry_point: str
    help: str = ""


trackers: Table[TrackerSpec] = Table("tracker", "Run 'rltrain trackers' for the list.")
exporters: Table[ExporterSpec] = Table("exporter")
importers: Table[ImporterSpec] = Table("importer")
verbs: Table[VerbSpec] = Table("verb")


def register_tracker(name: str, entry_point: str | type, *, description: str = "", display: bool = False) -> None:
    """Makes a tracker known; see :class:`TrackerSpec`.

    Raises:
        ConfigError: The name is taken by another entry point.
    """
    trackers.add(TrackerSpec(name, entry_point, description, display))


def register_exporter(name: str, entry_point: str, *, description: str = "") -> None:
    """Makes a format for ``rltrain export`` known; see :class:`ExporterSpec`.

    Raises:
        ConfigError: The name is taken by another entry point.
    """
    exporters.add(ExporterSpec(name, entry_point, description))


def register_importer(ending: str, entry_point: str) -> None:
    """Makes known what ``--init-from`` does with files of another library; see :class:`ImporterSpec`.

    Raises:
        ConfigError: The ending is taken by another entry point.
    """
    importers.add(ImporterSpec(ending, entry_point))


def register_verb(name: str, entry_point: str, *, help: str = "") -> None:
    """Makes a verb of the command line known; see :class:`VerbSpec`.

    Raises:
        ConfigError: The name is taken by another entry point.
    """
    verbs.add(VerbSpec(name, entry_point, help))


def importer_of(file: str) -> Callable[..., None] | None:
    """What starts an agent from a file of another library, by the ending of its name; None for a run of ours."""
    discover()
    return next((resolve(spec.entry_point) for spec in importers.values() if file.endswith(spec.name)), None)


def discover() -> None:
    """Calls the registration functions of all installed packages, once; ours first, so that ours keep their names."""
    global _discovered
    if _discovered:
        return
    _discovered = True
    for group in GROUPS:
        for plugin in sorted(entry_points(group=group), key=_is_foreign):
            try:
                plugin.load()()
            except Exception as error:  # a broken plugin must not take everything else down
                warnings.warn(f"The plugin '{plugin.name}' ({plugin.value}) was left out: {error}", stacklevel=2)


def _is_foreign(plugin: EntryPoint) -> bool:
    return not plugin.value.startswith("rltrain.")


def path_of(entry_point: str | type) -> str:
    """``module:Class``; a class that is defined again, as in a notebook, has the path of the one before."""
    return entry_point if isinstance(entry_point, str) else f"{entry_point.__module__}:{entry_point.__qualname__}"


def resolve(entry_point: str | type) -> Any:
    """The object behind ``module:name``.

    Raises:
        ConfigError: It cannot be imported.
    """
    if not isinstance(entry_point, str):
        return entry_point
    module, _, name = entry_point.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"'{entry_point}' cannot be imported: {error}.", "Reinstall the package it is in.") from error
