"""Finds installed plugins, and keeps the registries of trackers, exporters, importers and verbs.

A registration is a few strings; the code behind them is imported when it is first used. Built-in parts register
exactly as plugins do: by an entry point in one of :data:`GROUPS` that names a function to call.
"""

from __future__ import annotations

import importlib
import reprlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

from rltrain.errors import ConfigError, did_you_mean
from rltrain.naming.arguments import typed

GROUPS = ("rltrain.envs", "rltrain.agents", "rltrain.trackers", "rltrain.exporters", "rltrain.verbs")
"""The groups of entry points; any of their functions may register anything."""

_discovered = False


class Spec(Protocol):
    """The interface of all specs."""

    @property
    def name(self) -> str:
        """The name that users type."""
        ...

    @property
    def entry_point(self) -> str | type:
        """``module:name``, or the object itself."""
        ...


S = TypeVar("S", bound=Spec)


class Table(dict[str, S]):
    """A registry of one kind of plugin: specs by name, in the order of registration.

    Args:
        kind: The word for it in error messages.
        listing: A sentence for error messages that says how to list all of them.
    """

    def __init__(self, kind: str, listing: str = "") -> None:
        super().__init__()
        self.kind = kind
        self.listing = listing

    def add(self, spec: S) -> None:
        """Registers a spec. Registering it again, as in a notebook, replaces it.

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
        """The spec registered under a name.

        Raises:
            ConfigError: There is none.
        """
        discover()
        if not isinstance(name, str):
            fix = f"Give its name: {', '.join(self)}." if self else "Give its name."
            raise ConfigError(f"There is no {self.kind} {reprlib.repr(name)}.", fix)
        if name not in self:
            listing = self.listing or f"Known: {', '.join(self) or 'none'}."
            raise ConfigError(f"There is no {self.kind} '{name}'.", did_you_mean(name, self, listing))
        return self[name]


@dataclass(frozen=True)
class TrackerSpec:
    """A registered tracker.

    Attributes:
        name: Its name after ``--trackers``.
        entry_point: ``module:Class`` of a :class:`~rltrain.tracker.Tracker`, or the class itself.
        description: One line for ``rltrain trackers``.
        display: Whether it shows progress to a person who waits for it. Then ``--no-progress`` leaves it out, and runs
            that train together share one.
        own_process: Whether it runs in a process of its own, so that training never waits for it.
        needs: The module that it needs, if that is not a part of rltrain.
        install: What pip is told to install that module, such as ``rltrain[wandb]``.
    """

    name: str
    entry_point: str | type
    description: str = ""
    display: bool = False
    own_process: bool = False
    needs: str = ""
    install: str = ""

    @property
    def missing(self) -> str:
        """The command that installs what it needs; empty if that is here."""
        return f"pip install '{self.install}'" if self.needs and find_spec(self.needs) is None else ""


@dataclass(frozen=True)
class ExporterSpec:
    """A registered format of policies.

    Attributes:
        name: Its name after ``rltrain export RUN --to``.
        entry_point: ``module:function`` that is called with the run folder, the path to write to (None for its own
            default) and ``checkpoint=``. It returns a dict from each file it wrote to a text on how to use that file.
        description: One line for ``rltrain export --help``.
        options: Those of ``int8`` and ``episodes`` that it takes besides, as keyword arguments.
    """

    name: str
    entry_point: str
    description: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImporterSpec:
    """A registered reader of files saved by other libraries, for ``--init-from``.

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
        name: Its name after ``rltrain``.
        entry_point: ``module:function`` that is called with the arguments after the verb, a list of str, and returns
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


@typed()
def register_tracker(
    name: str,
    entry_point: str | type,
    *,
    description: str = "",
    display: bool = False,
    own_process: bool = False,
    needs: str = "",
    install: str = "",
) -> None:
    """Makes a tracker known; see :class:`TrackerSpec`.

    Raises:
        ConfigError: The name is taken by another entry point.
    """
    trackers.add(TrackerSpec(name, entry_point, description, display, own_process, needs, install))


@typed()
def register_exporter(name: str, entry_point: str, *, description: str = "", options: tuple[str, ...] = ()) -> None:
    """Makes a format for ``rltrain export`` known; see :class:`ExporterSpec`.

    Raises:
        ConfigError: The name is taken by another entry point.
    """
    exporters.add(ExporterSpec(name, entry_point, description, options))


@typed()
def register_importer(ending: str, entry_point: str) -> None:
    """Makes a reader of another library's files known to ``--init-from``; see :class:`ImporterSpec`.

    Raises:
        ConfigError: The ending is taken by another entry point.
    """
    importers.add(ImporterSpec(ending, entry_point))


@typed()
def register_verb(name: str, entry_point: str, *, help: str = "") -> None:
    """Makes a verb of the command line known; see :class:`VerbSpec`.

    Raises:
        ConfigError: The name is taken by another entry point.
    """
    verbs.add(VerbSpec(name, entry_point, help))


def importer_of(file: str) -> Callable[..., None] | None:
    """The importer for a file of another library, by the ending of its name; None if none is registered for it."""
    discover()
    return next((resolve(spec.entry_point) for spec in importers.values() if file.endswith(spec.name)), None)


def discover() -> None:
    """Calls the registration functions of all installed packages once. Built-in ones are first and keep their names."""
    global _discovered
    if _discovered:
        return
    _discovered = True
    for group in GROUPS:
        for plugin in sorted(entry_points(group=group), key=_is_foreign):
            try:
                plugin.load()()
            except Exception as error:  # a broken plugin must not break everything else
                warnings.warn(f"The plugin '{plugin.name}' ({plugin.value}) was left out: {error}", stacklevel=2)


def _is_foreign(plugin: EntryPoint) -> bool:
    return not plugin.value.startswith("rltrain.")


def path_of(entry_point: str | type) -> str:
    """``module:Class``; a class that is defined again, as in a notebook, keeps its path."""
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
