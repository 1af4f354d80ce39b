"""Wheel and source distribution contain what the repository does: both are built, compared and imported."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import rltrain

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCES = {"rltrain": "rltrain", "envs": "rltrain.envs", "agents": "rltrain.agents", "configs": "rltrain.configs"}
LINKS = ("rltrain/envs", "rltrain/agents", "rltrain/configs", "src/rltrain")


def python_folders() -> dict[str, Path]:
    """Import name and folder of every package, by the Python files there are."""
    found = {}
    for source, package in SOURCES.items():
        for file in (ROOT / source).rglob("*.py"):
            relative = file.parent.relative_to(ROOT)
            if not relative.as_posix().startswith(LINKS):
                found[".".join((package, *relative.parts[1:]))] = file.parent
    return found


def run(*command: str | Path, cwd: Path, **options: object) -> str:
    """Runs a Python command, and fails with all it printed if it fails."""
    done = subprocess.run([sys.executable, *command], cwd=cwd, text=True, capture_output=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_of_the_sources(to: Path, links: bool) -> Path:
    """The files a build needs, so that it leaves nothing in the checkout."""
    to.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, to)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in (*SOURCES, "src"):
        shutil.copytree(ROOT / folder, to / folder, symlinks=True, ignore=ignore)
    for link in LINKS:
        if not links:  # git leaves a small text file where it may not make a symlink
            (to / link).unlink()
            (to / link).write_text(f"../{Path(link).name}")
    return to


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel from the checkout; a source distribution, and the wheel from that; all without network."""
    base = tmp_path_factory.mktemp("built")
    build = ("-m", "build", "--no-isolation", "--outdir")
    tree = copy_of_the_sources(base / "tree", links=True)
    run(*build, base / "direct", "--wheel", tree, cwd=base)
    plain = copy_of_the_sources(base / "plain", links=False)
    run(*build, base / "through-sdist", plain, cwd=base)
    run(*build, base / "linked-sdist", tree, cwd=base)
    return {
        "wheel": next((base / "direct").glob("*.whl")),
        "wheel of the sdist with symlinks": next((base / "linked-sdist").glob("*.whl")),
        "sdist": next((base / "through-sdist").glob("*.tar.gz")),
        "wheel of the sdist": next((base / "through-sdist").glob("*.whl")),
    }


def files_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_package_is_listed() -> None:
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(python_folders())


def test_the_installed_version_is_the_one_written_down() -> None:
    written = PROJECT["project"]["version"]
    assert rltrain.__version__ == written, "install again: pip install -e ."


def test_the_wheel_holds_every_file_and_nothing_else(built: dict[str, Path]) -> None:
    expected = {"rltrain/py.typed", "rltrain/preferences/page.html"}
    for package, folder in python_folders().items():
        inside = package.replace(".", "/")
        expected |= {f"{inside}/{file.name}" for file in folder.glob("*.py")}
    expected |= {f"rltrain/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "configs").rglob("*.yaml")}
    expected |= {f"rltrain/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "envs/gallery").glob("*.png")}
    expected |= {file.relative_to(ROOT).as_posix() for file in (ROOT / "rltrain/cost").glob("*.yaml")}
    template = (file for file in (ROOT / "rltrain/check/template").rglob("*") if file.is_file())
    expected |= {file.relative_to(ROOT).as_posix() for file in template}
    files = files_in(built["wheel"])
    assert {file for file in files if ".dist-info/" not in file} == expected
    assert any(re.fullmatch(r"rltrain-[^/]+\.dist-info/licenses/LICENSE", file) for file in files)


def test_the_wheel_is_the_same_without_symlinks_and_through_the_sdist(built: dict[str, Path]) -> None:
    assert files_in(built["wheel of the sdist"]) == files_in(built["wheel"])
    assert files_in(built["wheel of the sdist with symlinks"]) == files_in(built["wheel"])


def test_the_sdist_builds_on_its_own(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "envs/__init__.py", "agents/__init__.py"} <= files


def test_every_module_of_the_wheel_imports(built: dict[str, Path], tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    # Without an index: nothing but the wheel is wanted.
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    run(*install, "--target", target, built["wheel"], cwd=elsewhere)
    assert {path.name for path in target.iterdir() if "." not in path.name} <= {"rltrain", "bin"}
    script = """
import importlib, pathlib, sys
target = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(target))
for file in sorted((target / "rltrain").rglob("*.py")):
    name = ".".join(file.relative_to(target).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert pathlib.Path(module.__file__) == file, f"{name} came from {module.__file__}"
    print(name)
from rltrain.registry import agent_specs, env_specs, resolve
for spec in [*env_specs().values(), *agent_specs().values()]:
    resolve(spec.entry_point)
"""
    imported = run("-I", "-c", script, target, cwd=elsewhere).split()
    assert set(python_folders()) < set(imported)


@pytest.mark.parametrize("links", [True, False], ids=["symlinks", "no symlinks"])
def test_an_editable_install_shows_rltrain_and_nothing_else(links: bool, tmp_path: Path) -> None:
    tree, site, user = copy_of_the_sources(tmp_path / "tree", links), tmp_path / "site", tmp_path / "user"
    (user / "envs").mkdir(parents=True)  # without __init__.py: any package envs on the path would hide it
    (user / "envs" / "mine.py").touch()
    build = "import sys\nfrom setuptools import build_meta\nbuild_meta.build_editable(sys.argv[1])"
    run("-c", build, tmp_path, cwd=tree)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    script = """
import pathlib, site, sys
sys.path = [path for path in sys.path if not pathlib.Path(path, "rltrain").exists()]  # the install of this process
sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
site.addsitedir(sys.argv[1])
import envs.mine, rltrain, rltrain.agents, rltrain.configs, rltrain.envs
for package in (rltrain, rltrain.envs, rltrain.agents, rltrain.configs):
    print(package.__file__)
"""
    files = run("-c", script, site, cwd=user).splitlines()
    for file, folder in zip(files, SOURCES, strict=True):
        assert (tree / folder / "__init__.py").samefile(file)
    if links:  # type checkers follow a path, and run no code to find a package
        (line,) = (line for file in site.glob("*.pth") for line in file.read_text().splitlines())
        assert {path.name for path in Path(line).iterdir() if path.suffix != ".egg-info"} == {"rltrain"}


@pytest.mark.parametrize("name", ["envs", "agents"])
def test_a_package_imported_under_another_name_refuses(name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, ROOT / name / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=f"import this package as 'rltrain.{name}', not as '{name}'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_every_dependency_is_pinned_to_what_is_tested() -> None:
    """Follows the requirements of what is installed, so that constraints.txt forgets none."""
    pinned = pins("constraints.txt")
    direct = {canonical(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
    if any(Version(version(name)).public != pinned[name] for name in direct & pinned.keys()):
        pytest.skip("other versions than those of constraints.txt are installed")
    alone = {"litert", "azureml"}  # which cannot stand beside the others
    extras = ",".join({*PROJECT["project"]["optional-dependencies"]} - alone)
    to_see, seen, missing = [Requirement(f"rltrain[{extras}]")], set(), set()
    while to_see:
        requirement = to_see.pop()
        name = canonical(requirement.name)
        if (name, *requirement.extras) in seen or name.startswith(("nvidia-", "cuda-", "triton")):
            continue  # those belong to one build of torch
        seen.add((name, *requirement.extras))
        if name != "rltrain" and name not in pinned:
            missing.add(name)
        try:
            needs = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue  # of an extra that is not installed here
        wanted = [{"extra": extra} for extra in (*requirement.extras, "")]
        to_see += [need for need in needs if need.marker is None or any(need.marker.evaluate(e) for e in wanted)]
    assert not missing, "add to constraints.txt: " + ", ".join(f"{name}=={version(name)}" for name in sorted(missing))


def test_lower_bounds_are_the_versions_that_were_tried() -> None:
    """`make test-oldest` installs constraints-oldest.txt; a bound below what is in there would be a guess."""
    extras = PROJECT["project"]["optional-dependencies"]
    stated = [Requirement(text) for text in (*PROJECT["project"]["dependencies"], *extras["sb3"])]
    bounds = {canonical(need.name): str(need.specifier) for need in stated}
    assert {name: f">={number}" for name, number in pins("constraints-oldest.txt").items()} == bounds


def pins(file: str) -> dict[str, str]:
    """The versions that a file of constraints names, by distribution."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonical(name): number for name, number in pairs}


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
