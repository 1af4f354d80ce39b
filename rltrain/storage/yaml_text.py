"""Reads YAML from anywhere: nothing but plain data, of a bounded size, and no key twice."""

from __future__ import annotations

from typing import Any

import yaml

from rltrain.storage.files import Damaged

NODE_LIMIT, LEVEL_LIMIT = 100_000, 50
"""Most values and levels that a text stands for."""


def safe_load(text: str) -> Any:
    """``yaml.safe_load``, but aliases cannot multiply a small text into a huge tree, and no key may be there twice.

    Raises:
        yaml.YAMLError: It is not YAML, or a mapping has a key twice; says in which line.
        Damaged: It stands for too much.
        ValueError: It holds an impossible date or number.
        RecursionError: It has too many levels even to be read.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """The nodes that a node stands for with its aliases written out, and their levels.

    Raises:
        Damaged: They are too many.
        yaml.MarkedYAMLError: A mapping has a key twice, of which YAML would take the last without a word.
    """
    if id(node) not in known:
        known[id(node)] = None
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            _check_keys([key for key, _ in node.value])
            parts = [part for pair in node.value for part in pair]
        inner = [_measure(part, known) for part in parts]
        known[id(node)] = 1 + sum(nodes for nodes, _ in inner), 1 + max((levels for _, levels in inner), default=0)
    measured = known[id(node)]
    if measured is None:
        raise Damaged("it refers to itself")
    if measured[0] > NODE_LIMIT or measured[1] > LEVEL_LIMIT:
        raise Damaged(f"it stands for more than {NODE_LIMIT:,} values or {LEVEL_LIMIT} levels")
    return measured


def _check_keys(keys: list[yaml.Node]) -> None:
    known: set[tuple[str, str]] = set()
    for key in keys:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if (key.tag, key.value) in known:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is there twice", problem_mark=key.start_mark)
            known.add((key.tag, key.value))
