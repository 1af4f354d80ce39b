"""Constructor arguments are written into config.yaml so that they read back equal, in value and type."""

from __future__ import annotations

import enum
import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rltrain.config import EnvConfig
from rltrain.errors import ConfigError
from rltrain.settings import load_config, validate
from rltrain.storage.values import SavedEnum, Unsaved, from_plain, restored, to_plain


class Mode(enum.Enum):
    FAST = 1
    SLOW = "slow"


class Level(enum.IntEnum):
    LOW = 1


def through_file(value: Any, tmp_path: Path) -> Any:
    config = EnvConfig(id="x", kwargs={"value": value})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"env": config.model_dump(mode="json")}), encoding="utf-8")
    return validate(EnvConfig, load_config(file)["env"]).kwargs["value"]


def same(a: Any, b: Any) -> bool:
    """Equal in value and type, to any depth; NaN equals NaN, and 0.0 is not -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and repr(a.tolist()) == repr(b.tolist())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return repr(a) == repr(b) if isinstance(a, float | np.floating) else a == b


VALUES: list[Any] = [
    *(None, True, 0, -(2**70), 1e300, 1e-7, -0.0, math.inf, -math.inf, math.nan, 3 + 4j),
    *("", "on", "null", "1e3", "2024-01-01", "~", "a: b", "line\nline", "ünï\u2028", "$tuple", "  "),
    *([], [1, [2.0, "x"]], (), (1, (2, [3])), {}, {"a": {"b": (1,)}}, set(), {1, 2.5, "x"}, {(1, 2)}, frozenset({1})),
    *({1: "a", 2.5: "b", None: "c", False: "d"}, {(1, 2): {3: 4}}, {"$tuple": [1]}, {"$what": 1, "b": 2}, {"$x": 1}),
    *(b"", b"\x00\xff", Path("a/b"), Path(), range(1, 9, 2), date(2024, 2, 29)),
    *(datetime(2024, 1, 2, 3, 4, 5, 678), datetime(2024, 1, 2, tzinfo=UTC)),
    *(
        np.float32(0.1),
        np.float64(0.1),
        np.float16(np.nan),
        np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.str_("x"),
    ),
    *(np.arange(6.0).reshape(2, 3), np.array(7), np.zeros((0, 3), np.int8), np.array(["a", "bc"]), np.array([True])),
    *(
        np.arange(1000, dtype=np.int16),
        np.linspace(-1, 1, 501, dtype=">f4"),
        np.array([np.inf, np.nan, -0.0], np.float16),
    ),
    [{"deep": [(np.float32(1), {b"x": {math.inf}})]}],
]


def named(value: Any) -> str:
    """The same in every process, which has an order of its own for what is in a set."""
    shown = sorted(map(repr, value)) if isinstance(value, set | frozenset) else value
    return f"{type(value).__name__} {shown!r}"[:40]


@pytest.mark.parametrize("value", VALUES, ids=named)
def test_a_value_reads_back_equal(value: Any, tmp_path: Path) -> None:
    back = through_file(value, tmp_path)
    assert same(value, back), (value, back)


class Holder:
    def __init__(self, mode: Mode = Mode.FAST, level: Level | None = None, many: list[Mode] | None = None) -> None:
        """Its annotations are text, as ``from __future__ import annotations`` makes them."""


def make_holder(mode=Mode.FAST):  # type: ignore[no-untyped-def]
    """Its default alone says which enumeration it takes."""


@pytest.mark.parametrize("value", [Mode.SLOW, Level.LOW, [Mode.FAST, Mode.SLOW], (Mode.SLOW, {"a": Mode.FAST})])
def test_an_enum_comes_back_through_the_signature_alone(value: Any, tmp_path: Path) -> None:
    saved = through_file(value, tmp_path)
    assert saved != value
    assert restored({"value": saved}, lambda: Holder, "Holder") == {"value": value}


def test_an_enum_comes_back_through_a_default() -> None:
    saved = from_plain(to_plain(Mode.SLOW))
    assert saved == SavedEnum("Mode", "SLOW")
    assert restored({"mode": saved}, lambda: make_holder, "x") == {"mode": Mode.SLOW}


@pytest.mark.parametrize("value", [SavedEnum("Path", "cwd"), SavedEnum("Mode", "LOST"), SavedEnum("System", "x")])
def test_a_name_that_the_signature_does_not_know_is_asked_for(value: SavedEnum) -> None:
    with pytest.raises(ConfigError, match="which the run folder names but does not hold") as caught:
        restored({"mode": value}, lambda: Holder, "Holder")
    assert "'mode'" in caught.value.fix


class Opaque:
    pass


def itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Sub(dict):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    "value",
    [Opaque(), len, Opaque, Sub(a=1), np.array([Opaque()]), np.datetime64("2024-01-01"), {"a": [Opaque()]}, itself()],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_written_is_marked(value: Any, tmp_path: Path) -> None:
    back = through_file(value, tmp_path)
    with pytest.raises(ConfigError, match=r"value=.*\(\.\.\.\), which the run folder names but does not hold"):
        restored({"value": back}, lambda: Holder, "Holder")
    assert restored({"value": 3}, lambda: Holder, "Holder") == {"value": 3}


def test_a_mark_that_is_read_is_written_again() -> None:
    for mark in (Unsaved("DataFrame"), SavedEnum("Mode", "SLOW")):
        assert from_plain(to_plain(mark)) == mark


@pytest.mark.parametrize(
    "data",
    [
        {"$tuple": 5},
        {"$nothing": 1},
        {"$enum": ["one"]},
        {"$bytes": "é"},
        {"$array": {"dtype": "O", "shape": [1], "values": ["x"]}},
        {"$array": {"dtype": "<U999999999", "shape": [1], "values": ["x"]}},
        {"$array": {"dtype": "<f8", "shape": [3], "values": [1]}},
        {"$array": {"dtype": "<f8"}},
        {"$number": {"dtype": "i1", "value": 999}},
        {"$date": "yesterday"},
        {"$set": [[1]]},
        {"$range": [1, 2, 0]},
    ],
    ids=repr,
)
def test_what_nobody_writes_is_refused(data: Any) -> None:
    with pytest.raises(ConfigError, match="no version of rltrain writes"):
        from_plain({"inside": [data]})
