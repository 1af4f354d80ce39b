"""Run folders written before modules moved still load, act as they did, and train on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import rltrain

KEPT = Path(__file__).parent / "kept_runs"
EXPECTED = json.loads((KEPT / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("run", EXPECTED)
def test_a_run_of_before_acts_as_it_did(run: str) -> None:
    action, _ = rltrain.load(KEPT / run).predict(np.array(EXPECTED[run]["obs"], np.float32))
    np.testing.assert_allclose(action, EXPECTED[run]["action"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("run", EXPECTED)
def test_a_run_of_before_trains_on(run: str, tmp_path: Path) -> None:
    shutil.copytree(KEPT / run, tmp_path / run)
    result = rltrain.resume(tmp_path / run, total_timesteps=1024, progress=False)
    assert result.steps == 1024
    assert result.stopped_by == "total_timesteps"
