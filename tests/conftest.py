"""What tests of all folders share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import pytest

from rltrain import plugins, registry


@contextmanager
def registries_kept() -> Iterator[None]:
    """Whatever is registered inside, with rltrain or with Gymnasium, is forgotten after it."""
    plugins.discover()
    tables: list[dict[str, Any]] = [registry._envs, registry._agents]
    tables += [plugins.exporters, plugins.importers, plugins.trackers, plugins.verbs]
    before = [dict(table) for table in tables]
    known = dict(gymnasium.registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gymnasium.envs.registration, "registry", known)
        patch.setattr(gymnasium, "registry", known)
        yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.fixture
def clean_registries() -> Iterator[None]:
    """Whatever a test registers, with rltrain or with Gymnasium, is forgotten after it."""
    with registries_kept():
        yield


@pytest.fixture(scope="module")
def scripted_known() -> Iterator[None]:
    """The agent ``scripted`` and the environment ``test/Pay-v0`` are registered while the tests of a file run."""
    import scripted

    with registries_kept():
        scripted.register()
        yield
