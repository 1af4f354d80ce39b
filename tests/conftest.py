"""What tests of all folders share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest

from rltrain import plugins, registry


@pytest.fixture
def clean_registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test registers, with rltrain or with Gymnasium, is forgotten after it."""
    plugins.discover()
    tables: list[dict[str, Any]] = [registry._envs, registry._agents]
    tables += [plugins.exporters, plugins.importers, plugins.trackers, plugins.verbs]
    before = [dict(table) for table in tables]
    known = dict(gymnasium.registry)
    monkeypatch.setattr(gymnasium.envs.registration, "registry", known)
    monkeypatch.setattr(gymnasium, "registry", known)
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
