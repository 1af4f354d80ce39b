"""Rows that go wrong, for the tests of ``benchmarks.gpu``."""

from __future__ import annotations

import os
import time
from typing import Any


def fine(setup: Any, **options: Any) -> dict[str, Any]:
    return {"device": setup.device, **options}


def fails(setup: Any) -> dict[str, Any]:
    raise ValueError("no such\nthing")


def hangs(setup: Any) -> dict[str, Any]:
    time.sleep(600)
    return {}


def dies(setup: Any) -> dict[str, Any]:
    os._exit(7)
