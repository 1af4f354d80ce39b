"""Looks up every address in the built pages: files, anchors, and nothing loaded from a network."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")}
"""Attributes whose address a browser loads by itself."""


class Addresses(HTMLParser):
    """Collects a page's anchors, and its addresses with whether they are loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.addresses: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if value and (name == "href" or (tag, name) in LOADED):
                self.addresses.append((value, (tag, name) in LOADED))


def problems(folder: Path) -> list[str]:
    """One line for each address in the pages of a folder that leads nowhere, or is loaded from elsewhere."""
    pages = {path.resolve(): read(path) for path in sorted(folder.rglob("*.html"))}
    return [
        f"{path.relative_to(folder.resolve())}: {problem}"
        for path, page in pages.items()
        for address, loaded in page.addresses
        if (problem := _problem(folder.resolve(), path, address, loaded, pages))
    ]


def read(path: Path) -> Addresses:
    """The addresses and anchors of a page."""
    parser = Addresses()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def _problem(root: Path, path: Path, address: str, loaded: bool, pages: dict[Path, Addresses]) -> str:
    parts = urlsplit(address)
    if parts.scheme == "data":
        return ""
    if parts.scheme or parts.netloc:
        return f"'{address}' is loaded from a network" if loaded else ""
    whole = unquote(parts.path)
    base = root if whole.startswith("/") else path.parent  # 404.html is shown in the place of any page
    target = (base / whole.lstrip("/")).resolve() if whole else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return f"'{address}' does not exist"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return f"'{address}' names no heading there"
    return ""
