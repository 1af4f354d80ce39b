"""The pipeline for Pachyderm has no field that its schema lacks, and its commands do what it says.

``pachyderm_fields.json`` has the messages of ``CreatePipelineRequest`` of Pachyderm 2 with the names and types of their
fields, as the JSON schema in its repository (``src/internal/jsonschema/pps_v2``) lists them, which allows no others.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rltrain.data.dataset import Dataset
from rltrain.recording.recorder import record

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "docs/pipelines/pachyderm/train.pipeline.json"
FIELDS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "pachyderm_fields.json").read_text())
KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "boolean": (bool,), "integer": (int,), "number": (int, float)}


def faults(value: Any, kind: Any, where: str = "CreatePipelineRequest") -> Iterator[str]:
    """What of a value does not fit the schema."""
    if isinstance(kind, list):
        if not isinstance(value, list):
            yield f"{where} is no list"
            return
        for number, each in enumerate(value):
            yield from faults(each, kind[0], f"{where}[{number}]")
    elif isinstance(kind, dict) or kind in FIELDS:
        if not isinstance(value, dict):
            yield f"{where} is no mapping"
            return
        for name, each in value.items():
            field = kind["*"] if isinstance(kind, dict) else FIELDS[kind].get(name)
            if field is None:
                yield f"{where} has no field '{name}'"
            else:
                yield from faults(each, field, f"{where}.{name}")
    elif not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield f"{where} is no {kind}"


def spec() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SPEC.read_text())
    return found


def test_the_pipeline_fits_the_schema() -> None:
    assert list(faults(spec(), "CreatePipelineRequest")) == []
    assert set(spec()) >= {"pipeline", "transform", "input"}


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (["paralelismSpec"], {}, "CreatePipelineRequest has no field 'paralelismSpec'"),
        (["transform", "comand"], [], "CreatePipelineRequest.transform has no field 'comand'"),
        (["input", "pfs", "globs"], "/", "CreatePipelineRequest.input.pfs has no field 'globs'"),
        (["input", "pfs", "glob"], 1, "CreatePipelineRequest.input.pfs.glob is no string"),
        (["datumTries"], True, "CreatePipelineRequest.datumTries is no integer"),
        (["transform", "stdin"], "sh", "CreatePipelineRequest.transform.stdin is no list"),
        (["transform", "env", "SEED"], 0, "CreatePipelineRequest.transform.env.SEED is no string"),
    ],
)
def test_mistakes_are_found(path: list[str], value: Any, fault: str) -> None:
    changed = copy.deepcopy(spec())
    inside = changed
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = value
    assert list(faults(changed, "CreatePipelineRequest")) == [fault]


@pytest.fixture(scope="module")
def pfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a worker: /pfs/in and /pfs/out are links to scratch space there."""
    base = tmp_path_factory.mktemp("worker")
    for name in ("in", "out"):
        (base / "scratch" / name).mkdir(parents=True)
        (base / "pfs").mkdir(exist_ok=True)
        os.symlink(base / "scratch" / name, base / "pfs" / name)
    record("rltrain/FrozenLake-v1", base / "scratch/in/episodes", policies=["baseline"], episodes=20)
    return base / "pfs"


def run(pfs: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Runs the commands of the pipeline as a worker does."""
    transform = spec()["transform"]
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "rltrain").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rltrain "$@"\n')
    (bin_ / "rltrain").chmod(0o755)
    env = {**os.environ, **transform["env"], "STEPS": "2000", "PATH": f"{bin_}:{os.environ['PATH']}"}
    script = "\n".join(transform["stdin"]).replace("/pfs/", f"{pfs}/")
    return subprocess.run(transform["cmd"], input=script, env=env, text=True, capture_output=True, cwd=tmp_path)


def test_its_commands_read_in_and_write_out(pfs: Path, tmp_path: Path) -> None:
    done = run(pfs, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (pfs / "out").iterdir()} == {"check.json", "train.json", "eval.json", "runs"}
    assert json.loads((pfs / "out/check.json").read_text())["ok"]
    assert json.loads((pfs / "out/eval.json").read_text())["episodes"] == 200
    (metadata,) = (pfs / "out/runs").glob("*/bc_1/metadata.json")
    assert json.loads(metadata.read_text())["dataset"]["checksum"] == Dataset.open(pfs / "in/episodes").checksum
    assert not any(path.is_symlink() for path in (pfs / "out").rglob("*"))


def test_a_damaged_dataset_stops_it(pfs: Path, tmp_path: Path) -> None:
    part = pfs / "in/episodes/data_00000.safetensors"
    content = part.read_bytes()
    part.write_bytes(content[:-1])
    done = run(pfs, tmp_path)
    part.write_bytes(content)
    assert done.returncode == 4
    assert "has" in done.stderr
