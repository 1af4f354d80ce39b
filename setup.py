"""Where setuptools finds the packages. All else about the project is in pyproject.toml.

The folders envs/, agents/ and configs/ are packages of rltrain. In a checkout with its symlinks they are found below
src/, which holds nothing but rltrain: an editable install is then a path to src/, which mypy and pyright follow, and no
folder of yours named envs/ is ever shadowed by ours. Where git could not make symlinks (Windows without developer
mode), the packages are named one by one; an editable install works there too, but type checkers do not see it.
"""

from pathlib import Path

from setuptools import setup

FOLDERS = {
    "rltrain": "rltrain",
    "rltrain.agents": "agents",
    "rltrain.configs": "configs",
    "rltrain.envs": "envs",
}
has_symlinks = all(Path("src", *package.split("."), "__init__.py").is_file() for package in FOLDERS)
setup(package_dir={"": "src"} if has_symlinks else FOLDERS)
