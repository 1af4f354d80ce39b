"""The Dockerfile names what there is; ``make test-dockerfile`` runs its steps, which takes minutes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dockerfile_steps import ROOT, steps

from rltrain.cli import main

STEPS = steps((ROOT / "Dockerfile").read_text())


def test_what_it_copies_is_there() -> None:
    sources = [name for step, rest in STEPS if step == "COPY" for name in rest.split()[:-1]]
    assert {"rltrain", "envs", "agents", "configs", "pyproject.toml", "setup.py"} <= set(sources)
    assert all((ROOT / name).exists() for name in sources)


def test_what_it_starts_is_refused_for_the_missing_token_alone(capfd: Any) -> None:
    pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
    said = {step: json.loads(rest) for step, rest in STEPS if step in ("ENTRYPOINT", "CMD")}
    program, *arguments = said["ENTRYPOINT"] + said["CMD"]
    assert program == "rltrain"
    assert main(arguments) == 2
    assert "'/run/secrets/token' cannot be read: No such file or directory." in capfd.readouterr().err
