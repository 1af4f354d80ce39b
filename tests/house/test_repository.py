"""Things that must not be in the repository."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_FOLDERS = ("rltrain", "envs", "agents", "configs", "benchmarks")
MEGABYTE = 1_000_000


def git(*arguments: str) -> list[str]:
    """What git prints, by NUL."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments, "-z"], capture_output=True, text=True)
    return [entry for entry in done.stdout.split("\0") if entry]


if not (ROOT / ".git").exists() or not git("ls-files"):
    pytest.skip("not a git checkout", allow_module_level=True)

# Tracked files, and new ones that git would add.
FILES = [
    path
    for name in sorted(set(git("ls-files", "--cached", "--others", "--exclude-standard")))
    if (path := ROOT / name).is_file() and not path.is_symlink()
]
PYTHON = [path for path in FILES if path.suffix == ".py"]
SOURCES = [path for path in PYTHON if path.relative_to(ROOT).parts[0] in SOURCE_FOLDERS]

# In pieces, so that this file does not find itself.
INDEX_HOSTS = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "download.py" + "torch.org",
    "pypi." + "nvidia.com",
    "anaconda" + ".org",
    "registry.npm" + "js.org",
    "deb." + "debian.org",
]
MACHINE_PATHS = ["/" + "home/", "/" + "root/", "/" + "Users/", "/" + "work/"]
LOCK_FILES = {"poetry.lock", "uv.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "package-lock.json"}
UNFINISHED = re.compile(r"\b(TO" + "DO|FIX" + r"ME|XX" + r"X)\b")


def text_of(path: Path) -> str | None:
    """The text of a file, None if it is binary."""
    data = path.read_bytes()
    return None if b"\0" in data else data.decode("utf-8")


def places(found: list[tuple[Path, int, str]]) -> str:
    """One line for each finding."""
    return "\n".join(f"{path.relative_to(ROOT)}:{line}: {what}" for path, line, what in found)


def test_no_file_names_a_package_index_or_a_path_of_one_machine() -> None:
    words = [*INDEX_HOSTS, *MACHINE_PATHS]
    found = [
        (path, number, line.strip())
        for path in FILES
        for number, line in enumerate((text_of(path) or "").splitlines(), 1)
        if any(word in line for word in words)
    ]
    assert not found, places(found)


def test_no_lock_files() -> None:
    assert not [path for path in FILES if path.name in LOCK_FILES]


def test_no_large_binaries() -> None:
    large = [path for path in FILES if path.stat().st_size > MEGABYTE and text_of(path) is None]
    assert not large


def test_nothing_is_left_for_later_in_comments() -> None:
    found = [
        (path, number, line.strip())
        for path in PYTHON
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert not found, places(found)


def test_symlinks_are_those_that_make_a_checkout_complete() -> None:
    # From the index: a checkout may be on a system without symlinks.
    entries = [entry.split(maxsplit=3) for entry in git("ls-files", "--stage")]
    links = {name: blob for mode, blob, _, name in entries if mode == "120000"}
    targets = {
        name: subprocess.run(["git", "-C", str(ROOT), "cat-file", "blob", blob], capture_output=True, text=True).stdout
        for name, blob in links.items()
    }
    expected = {f"rltrain/{name}": f"../{name}" for name in ("agents", "configs", "envs")}
    assert targets == {**expected, "src/rltrain": "../rltrain"}


PICKLING = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "torch.save": "writes a pickle: use safetensors",
    "yaml.load": "runs code: use yaml.safe_load",
    "yaml.full_load": "use yaml.safe_load",
    "yaml.unsafe_load": "runs code: use yaml.safe_load",
}


def unsafe(source: str) -> list[tuple[int, str]]:
    """Line and reason of everything that could run code hidden in a data file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            base = (node.module or "").partition(".")[0]
            if base in ("torch", "yaml", "numpy"):
                hidden = [a.name for a in node.names if a.name in ("load", "save", "full_load", "unsafe_load")]
                found += [(node.lineno, f"imports {name} by itself: call {base}.{name}") for name in hidden]
        found += [(node.lineno, f"imports {n}") for n in names if n.partition(".")[0] in PICKLING]  # type: ignore[attr-defined]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        if called in FORBIDDEN_CALLS:
            found.append((node.lineno, f"{called} {FORBIDDEN_CALLS[called]}"))
        if called == "torch.load" and options.get("weights_only") is not True:
            found.append((node.lineno, "torch.load without weights_only=True unpickles"))
        if options.get("allow_pickle") not in (None, False):
            found.append((node.lineno, "allow_pickle unpickles"))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_data_file_can_run_code(path: Path) -> None:
    found = [(path, line, what) for line, what in unsafe(path.read_text(encoding="utf-8"))]
    assert not found, places(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from cloudpickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "from torch import load",
        "torch.save(x, path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_rule_catches(source: str) -> None:
    assert len(unsafe(source)) == 1


def test_the_rule_allows() -> None:
    assert not unsafe("torch.load(path, weights_only=True)\nyaml.safe_load(text)\nnp.load(path)\nimport json")
