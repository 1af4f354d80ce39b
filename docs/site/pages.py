"""From the files of the repository to the Markdown pages that the generator reads."""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from docs.site import ROOT, made
from docs.site.formulas import rendered
from docs.site.markdown import Section, sections, under, with_code

# Files outside docs/ that are pages as they are.
WHOLE = {
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
    "benchmarks/README.md": "project/benchmark.md",
}
# Where a link to a whole file leads whose sections are spread over the site.
SPREAD = {
    "README.md": "index.md",
    "docs/README.md": "index.md",
    "agents/README.md": "agents/overview.md",
    "envs/README.md": "gallery.md",
}
REST = "agents/README.md"
"""A file of which nothing may be missing: sections that no page includes stand at the end of its home."""
MARKER = re.compile(r"^<!-- (include|make) (.+?) -->$")
END = "<!-- end -->"
LINK = re.compile(r"(\]\()((?!https?:|mailto:)[^()\s]+)(\))")
CODE_SPAN = re.compile(r"(`+)(?:(?!\1).)+\1")


@dataclass
class Heading:
    """A heading of a page, and where in the repository it stands."""

    level: int
    title: str
    file: str
    slug: str


@dataclass
class Part:
    """Lines of a page that come from one file; their links are relative to its folder."""

    file: str
    lines: list[str]


@dataclass
class Page:
    """A page of the site."""

    path: str  # such as "agents/ppo.md"
    content: list[Heading | Part] = field(default_factory=list)


@dataclass
class Site:
    """All pages, and what is wrong with them."""

    pages: dict[str, Page] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=lambda: {**SPREAD, **WHOLE})  # page by file
    anchors: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)  # (page, anchor) by (file, slug)
    files: set[str] = field(default_factory=set)  # to be copied: pictures, and what links name beside pages
    errors: list[str] = field(default_factory=list)


def collect() -> Site:
    """Every page with its sections, links still as they were written."""
    site = Site()
    for folder in ("docs/site/pages", "docs"):
        for found in sorted((ROOT / folder).rglob("*.md")):
            path = found.relative_to(ROOT / folder).as_posix()
            if not path.startswith("site/"):
                site.homes.setdefault(found.relative_to(ROOT).as_posix(), path)
    for file, path in site.homes.items():
        if file not in SPREAD:
            site.pages[path] = _page(site, path, sections(file))
    for file, family, path in made.families():
        head, *below = under(file, family)
        site.pages[path] = _page(site, path, [Section(file, 1, made.titled(head.title), family, head.lines), *below])
    for section in sections(REST):
        if section.level == 2 and (REST, section.slug) not in site.anchors:
            site.pages[SPREAD[REST]].content += contents(site, SPREAD[REST], under(REST, section.slug))
    for page in site.pages.values():
        _name_anchors(site, page)
    return site


def _page(site: Site, path: str, parts: list[Section]) -> Page:
    page = Page(path, list(contents(site, path, parts)))
    titles = [one for one in page.content if isinstance(one, Heading) and one.level == 1]
    if len(titles) != 1:
        site.errors.append(
            f"{parts[0].file}: there are {len(titles)} titles, lines that start with '# '; a page has one."
        )
    return page


def contents(site: Site, path: str, parts: list[Section], shift: int = 0) -> Iterator[Heading | Part]:
    """Headings and text, with the markers replaced by what they ask for."""
    for section in parts:
        if section.level:
            yield Heading(section.level + shift, section.title, section.file, section.slug)
        level, kept, lines = section.level + shift, [], iter(section.lines)
        for line in lines:
            marker = MARKER.match(line)
            if marker is None:
                kept.append(line)
                continue
            yield Part(section.file, kept)
            kept = []
            if END not in lines:  # also passes over what stands there for other readers
                site.errors.append(f"{section.file}: there is no {END} after '{line}'.")
            try:
                if marker[1] == "make":
                    yield Part("", made.make(*marker[2].split()).splitlines())
                else:
                    yield from _included(site, path, level, *marker[2].split())
            except (KeyError, OSError, TypeError) as error:
                site.errors.append(f"{section.file}: '{line}' asks for what is not there ({error!r}).")
        yield Part(section.file, kept)


def _included(site: Site, path: str, level: int, target: str, only: str = "") -> Iterator[Heading | Part]:
    """The section of a file without its heading; ``only`` leaves out the sections below it."""
    file, _, slug = target.partition("#")
    found = under(file, slug)
    head, below = found[0], [] if only else found[1:]
    site.anchors.setdefault((file, slug), (path, ""))
    inner = [Section(file, 0, "", "", head.lines), *below]
    for one in contents(site, path, inner, level - head.level):
        if isinstance(one, Heading) or one.lines:
            yield one


def _name_anchors(site: Site, page: Page) -> None:
    """Notes where each heading has gone. One that stands twice on a page is numbered."""
    taken: set[str] = set()
    for one in page.content:
        if isinstance(one, Heading):
            anchor, number = one.slug, 1
            while anchor in taken:
                anchor, number = f"{one.slug}-{number}", number + 1
            taken.add(anchor)
            site.anchors.setdefault((one.file, one.slug), (page.path, anchor))
            one.slug = anchor


def write(site: Site, folder: Path) -> None:
    """Writes the pages, with links that hold in the site, and the files that they name."""
    for page in site.pages.values():
        text = [line for one in page.content for line in _lines(site, page, one)]
        target = folder / page.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rendered("\n".join(text)) + "\n", encoding="utf-8")
    for file in site.files:
        target = folder / "files" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, target)


def _lines(site: Site, page: Page, one: Heading | Part) -> Iterator[str]:
    if isinstance(one, Heading):
        yield from ("", f"{'#' * one.level} {one.title} {{#{one.slug}}}")
        return
    for line, is_code in with_code(one.lines):
        yield line if is_code else _linked(site, page, one.file, line)


def _linked(site: Site, page: Page, file: str, line: str) -> str:
    """A line of text with its links changed, those in code left alone."""
    spans = [match.span() for match in CODE_SPAN.finditer(line)]

    def change(match: re.Match[str]) -> str:
        if any(start < match.start(2) < end for start, end in spans):
            return match[0]
        return f"{match[1]}{_address(site, page, file, match[2])}{match[3]}"

    return LINK.sub(change, line)


def _address(site: Site, page: Page, file: str, link: str) -> str:
    """Where a link of a file leads in the site, relative to the page."""
    path, _, slug = link.partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(file), path)) if path else file
    here = posixpath.dirname(page.path) or "."
    if (target, slug) in site.anchors:
        at, anchor = site.anchors[target, slug]
        return posixpath.relpath(at, here) + (f"#{anchor}" if anchor else "")
    if target in site.homes and not slug:
        return posixpath.relpath(site.homes[target], here)
    if not slug and (ROOT / target).is_file() and not target.endswith(".md"):
        site.files.add(target)
        return posixpath.relpath(f"files/{target}", here)
    site.errors.append(f"{file or page.path}: the link to '{link}' leads to no page, heading or file of the site.")
    return link
