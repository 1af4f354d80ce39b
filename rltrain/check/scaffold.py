"""Writes the package of ``rltrain new-env`` from ``rltrain/check/template``."""

from __future__ import annotations

import builtins
import keyword
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path

from rltrain.errors import ConfigError
from rltrain.registry import env_specs
from rltrain.storage.files import reason, write_new
from rltrain.storage.making import making

NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
IN_THE_TEMPLATE = {"Any", "Canvas", "State", "Tensor", "TensorEnv"}  # names that the class must not have
FOLDERS = {"build", "configs", "dist", "docs", "runs", "src", "tests"}  # names that a package beside them must not have


def new_env(name: str, folder: Path = Path()) -> list[Path]:
    """Writes the package ``folder/name``.

    Args:
        name: Lower-case words, joined by ``-`` or ``_``.
        folder: Folder in which the package's own folder is created.

    Returns:
        The files that were written.

    Raises:
        ConfigError: The name cannot be used, or something exists in its place; nothing was written.
    """
    package, title = names_of(name)
    root = folder / name
    if root.exists() or root.is_symlink():
        raise ConfigError(f"'{root}' already exists.", "Choose another name, or move it away.")
    if not folder.is_dir():
        raise ConfigError(f"There is no folder '{folder}'.", "Make it first.")
    texts = dict(_template(files("rltrain.check") / "template", Path()))
    written = []
    try:
        with making(root) as aside:
            for path, text in texts.items():
                for old, new in (("my-env", package.replace("_", "-")), ("my_env", package), ("MyEnv", title)):
                    path, text = Path(str(path).replace(old, new)), text.replace(old, new)
                (aside / path).parent.mkdir(parents=True, exist_ok=True)
                write_new(aside / path, text.encode())
                written.append(root / path)
            aside.rename(root)
    except OSError as error:
        raise ConfigError(f"'{root}' cannot be written: {reason(error)}.", "Go to a folder of your own.") from error
    return written


def names_of(name: str) -> tuple[str, str]:
    """The names of package and class that belong to a name.

    Raises:
        ConfigError: It cannot be used.
    """
    package = name.replace("-", "_")
    title = "".join(word.capitalize() for word in package.split("_"))
    if not NAME.fullmatch(name) or len(name) > 50:
        suggestion = "-".join(re.findall(r"[a-z][a-z0-9]*", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()))[:50]
        example = suggestion.rstrip("-") or "walk-home"
        raise ConfigError(
            f"'{name}' is not a package name.", f"Use lower-case words joined by '-' or '_', such as {example}."
        )
    taken = {
        "a word of Python's": keyword.iskeyword(package) or keyword.issoftkeyword(package),
        "a module of Python's": package in sys.stdlib_module_names or hasattr(builtins, package),
        "a folder beside the package": package in FOLDERS,
        "the namespace of other environments": any(id.startswith((f"{package}/", f"{name}/")) for id in env_specs()),
        "an installed package": _is_module(package) or _is_installed(name),
        f"the class {title}, which the code needs": title in IN_THE_TEMPLATE,
        f"the class {title}, which Python has": keyword.iskeyword(title) or hasattr(builtins, title),
    }
    for what, is_so in taken.items():
        if is_so:
            raise ConfigError(f"'{name}' is taken: it is {what}.", "Choose another name.")
    return package, title


def _is_module(package: str) -> bool:
    """Whether it can be imported. A folder in the current directory without an ``__init__.py`` does not count."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _template(folder: Traversable, path: Path) -> list[tuple[Path, str]]:
    """The files of the template by path; ``.txt`` hides some of them from tools that would treat them as code."""
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        here = path / entry.name.removesuffix(".txt")
        found += _template(entry, here) if entry.is_dir() else [(here, entry.read_text(encoding="utf-8"))]
    return found
