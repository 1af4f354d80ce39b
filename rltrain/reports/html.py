"""Pieces of a web page. Every text is escaped, so that nothing that stands in a file becomes markup."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from rltrain.errors import plain

VOID = ("img", "meta")


class Markup(str):
    """A text that is markup already, and is not escaped again."""


def tag(element: str, /, *children: str, **attributes: str | bool) -> Markup:
    """An element.

    Args:
        element: Its name.
        *children: Texts, which are escaped, and :class:`Markup`.
        **attributes: Its attributes; a ``_`` at the end of a name is left out, and True stands for one without value.
    """
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(plain(str(value)))}"')
        for key, value in attributes.items()
        if value is not False
    )
    if element in VOID:
        return Markup(f"<{element}{given}>")
    return Markup(f"<{element}{given}>{join(children)}</{element}>\n")


def join(pieces: Iterable[str]) -> Markup:
    """Pieces one after another."""
    return Markup("".join(piece if isinstance(piece, Markup) else html.escape(plain(piece)) for piece in pieces))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> Markup:
    """A table that scrolls sideways where it is wider than the page; the columns in ``right`` hold numbers."""
    numbers = [name in right for name in head]
    cells = [
        tag("tr", *(tag("td", cell, class_="number" if n else False) for cell, n in zip(row, numbers, strict=True)))
        for row in rows
    ]
    first = tag(
        "tr", *(tag("th", name, class_="number" if n else False) for name, n in zip(head, numbers, strict=True))
    )
    return tag("div", tag("table", tag("thead", first), tag("tbody", *cells)), class_="wide")


def pairs(rows: Iterable[tuple[str, str]]) -> Markup:
    """Names with what belongs to them."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", text)) for name, text in rows))


def data_uri(content: bytes, kind: str) -> str:
    """The content of a file as an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
