"""Markdown files as lists of sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from docs.site import ROOT

HEADING = re.compile(r"^(#+) (.+?)\s*$")
FENCE = re.compile(r"^\s*(```+|~~~+)")


@dataclass
class Section:
    """A heading and the lines below it, up to the next heading of any level."""

    file: str  # path from the root of the repository
    level: int  # 1 for a title; 0 for what stands above it
    title: str
    slug: str  # what links to it end with
    lines: list[str] = field(default_factory=list)


@cache
def sections(file: str) -> list[Section]:
    """The sections of a file, in their order."""
    found = [Section(file, 0, "", "")]
    taken: dict[str, int] = {}
    for line, is_code in with_code((ROOT / file).read_text(encoding="utf-8").splitlines()):
        heading = None if is_code else HEADING.match(line)
        if heading is None:
            found[-1].lines.append(line)
            continue
        slug = slugify(heading[2])
        count = taken[slug] = taken.get(slug, -1) + 1
        found.append(Section(file, len(heading[1]), heading[2], f"{slug}-{count}" if count else slug))
    return found


def slugify(title: str) -> str:
    """The anchor of a heading as the hosts of repositories make it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def with_code(lines: list[str]) -> Iterator[tuple[str, bool]]:
    """Every line, and whether it belongs to a block of code."""
    fence = ""
    for line in lines:
        found = FENCE.match(line)
        if fence:
            yield line, True
            if found and found[1].startswith(fence) and line.strip() == found[1]:
                fence = ""
        else:
            fence = found[1] if found else ""
            yield line, bool(fence)


def under(file: str, slug: str) -> list[Section]:
    """The section of that name and the ones below it.

    Raises:
        KeyError: There is none.
    """
    everything = sections(file)
    start = next((i for i, section in enumerate(everything) if section.slug == slug and section.level), None)
    if start is None:
        raise KeyError(slug)
    level = everything[start].level
    end = next((i for i in range(start + 1, len(everything)) if everything[i].level <= level), len(everything))
    return everything[start:end]
