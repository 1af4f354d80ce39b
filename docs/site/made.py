"""What pages ask for by ``<!-- make NAME ... -->``: Markdown whose links are relative to the root of the repository."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from pydantic import BaseModel

from benchmarks.gallery import escaped
from benchmarks.table import table
from docs.site import ROOT
from docs.site.markdown import Section, sections
from rltrain.registry import agent_config_class

GALLERY = "envs/README.md"
TITLES = {
    "classic": "Classic control",
    "control": "Machines to control",
    "explore": "Exploration",
    "grid": "Grids and puzzles",
    "minatar": "MinAtar",
    "toy": "Toy texts",
}


def make(name: str, *arguments: str) -> str:
    """What a marker asks for.

    Raises:
        KeyError: There is nothing of that name.
    """
    return {"settings": settings, "scores": table, "gallery": gallery, "api": api}[name](*arguments)


def settings(agent: str) -> str:
    """The table of an agent's hyperparameters, from its config class."""
    rows = [f"| `{name}` | `{value}` | {escaped(text)} |" for name, value, text in fields(agent_config_class(agent)())]
    return "\n".join(("| setting | default | meaning |", "| --- | --- | --- |", *rows))


def fields(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, value and help of every field; those of nested settings after a dot."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel) and not field.description:
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, typed(value), " ".join((field.description or "").split())


def typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, BaseModel):  # one list stands for equal ones: net_arch
        widths = {name: typed(getattr(value, name)) for name in type(value).model_fields}
        return widths[min(widths)] if len(set(widths.values())) == 1 else str(widths)
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    return str(value)


def families() -> list[tuple[str, str, str]]:
    """The families of the gallery: the file, the heading in it, and the page that each gets."""
    slugs = [section.slug for section in sections(GALLERY) if section.level == 2]
    return [(GALLERY, slug, f"environments/{slug}.md") for slug in slugs]


def titled(family: str) -> str:
    """The name of a family for readers."""
    return TITLES.get(family, family.capitalize())


def gallery() -> str:
    """Every environment by family, as pictures with names that lead to its rules and scores."""
    parts = []
    inside = [section for section in sections(GALLERY) if section.level >= 2]
    for is_family, group in groupby(inside, key=lambda section: section.level == 2):
        members = list(group)
        if is_family:
            parts.append(f"\n## {titled(members[-1].title)}\n")
            continue
        cards = [card(section) for section in members]
        parts.append('<div class="gallery" markdown>\n\n' + "\n\n".join(cards) + "\n\n</div>\n")
    return "\n".join(parts)


def card(section: Section) -> str:
    """A picture, the name and a line about one environment."""
    picture = next(line for line in section.lines if line.startswith("!["))
    about = next(line for line in section.lines if line.strip())
    address = picture.rpartition("(")[2].rstrip(")")
    link = f"{GALLERY}#{section.slug}"
    name = section.title.removeprefix("rltrain/")
    return (
        f'<div class="environment" markdown>\n[![]({"envs/" + address}){{ loading=lazy }}]({link})\n\n'
        f"[{name}]({link})\n\n{about}\n</div>"
    )


def api() -> str:
    """References to what ``rltrain`` exports and no other page of the reference has."""
    tree = ast.parse((ROOT / "rltrain/__init__.py").read_text(encoding="utf-8"))
    (exported,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    return unlisted(exported)


def unlisted(names: list[str]) -> str:
    """References to those of some names that no page asks for; private ones are left out."""
    pages = (ROOT / "docs/site/pages/api").glob("*.md")
    asked = {line for path in pages for line in path.read_text(encoding="utf-8").splitlines()}
    lines = [f"::: rltrain.{name}" for name in names if name[0] != "_"]
    return "\n\n".join(line for line in lines if line not in asked)
