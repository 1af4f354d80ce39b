"""Builds the site: pages, generator, and a look at every address."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from docs.site import ROOT, check, made, pages

HERE = Path(__file__).parent
INSTALL = "Install it from the checkout: pip install -c constraints.txt -e '.[docs]'"


class SiteError(Exception):
    """What is wrong with the documentation, one line for each finding."""


def build(folder: Path) -> Path:
    """Builds the site anew in a folder, and returns its start page.

    Raises:
        SiteError: The generator is missing, or a link, heading, marker or title is wrong.
    """
    if missing := [name for name in ("zensical", "mkdocstrings", "ziamath") if find_spec(name) is None]:
        raise SiteError(f"The documentation is built by {missing[0]}, which is not installed. {INSTALL}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    site = pages.collect()
    pages.write(site, folder / "pages")
    if site.errors:
        raise SiteError("\n".join(site.errors))
    for name in ("style.css", "iframe-worker.js"):
        shutil.copy(HERE / name, folder / "pages")
    (folder / "zensical.toml").write_text(configuration(site.pages), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(folder / "zensical.toml")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode or not (folder / "site" / "index.html").is_file():
        raise SiteError((done.stdout + done.stderr).strip())
    if found := check.problems(folder / "site"):
        raise SiteError("\n".join(found))
    return folder / "site" / "index.html"


def configuration(written: dict[str, pages.Page]) -> str:
    """The generator's configuration, with the pages that its navigation does not name."""
    text = (HERE / "zensical.toml").read_text(encoding="utf-8")
    named = set(re.findall(r'"([\w/-]+\.md)"', text))
    families = [path for _, _, path in made.families()]
    rest = [path for path in written if path not in named and path not in families]
    for comment, lines in {
        "# pages that are not named": [f'"{path}",' for path in sorted(rest)],
        "# families": [f'"{path}",' for path in families],
    }.items():
        text = text.replace(comment, "\n    ".join(lines))
    return text.replace("ROOT", ROOT.as_posix())
