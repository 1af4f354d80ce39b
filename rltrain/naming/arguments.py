"""Checks the types of what people give to public functions, by the functions' own signatures."""

from __future__ import annotations

import builtins
import os
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, wraps
from importlib import import_module
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from rltrain.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", Path: "a path", type: "a class"}
"""What to give where a type is asked for."""
GIVE_ONE = "Give it a value, or leave it out."
"""What to do about text that is blank."""


def is_blank(value: object) -> bool:
    """Whether this is text without a letter, which names nothing: a variable of the shell that is not set reads so."""
    return isinstance(value, str) and not value.strip()


def typed(*own_checks: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a public function refuse arguments of other types than its signature says, and blank text.

    Text may be blank where it is so by default. What ``**options`` take in is not looked at.

    Args:
        *own_checks: The names of parameters that the function checks by itself.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        code = function.__code__
        positional = code.co_varnames[: code.co_argcount]
        known = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) - set(own_checks)
        defaults = dict(zip(reversed(positional), reversed(function.__defaults__ or ()), strict=False))
        defaults |= function.__kwdefaults__ or {}

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            hints = hints_of(function)
            for name, value in (*zip(positional, args, strict=False), *kwargs.items()):
                if name in known and name in hints and not fits(value, hints[name]):
                    raise ConfigError(
                        f"{name}={reprlib.repr(value)} does not fit.", f"Give {words_for(hints[name])}: {name}=..."
                    )
                if name in known and is_blank(value) and defaults.get(name) != "":
                    raise ConfigError(f"{name}={value!r} is blank.", GIVE_ONE)
            return function(*args, **kwargs)

        return checked

    return decorate


class _Names(dict[str, Any]):
    """The names of a module; one that is only imported for type checkers stands for anything, and torch for itself."""

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            raise KeyError(name)
        return import_module(name) if name == "torch" else Any


@cache
def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of parameters by name, as far as they can be resolved."""
    found, names = {}, _Names(vars(sys.modules[function.__module__]))
    for name, hint in function.__annotations__.items():
        with suppress(TypeError):  # an alias that is text itself
            found[name] = eval(hint, {}, names) if isinstance(hint, str) else hint  # of our own source
    return found


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as far as that can be told."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return value in inner
    if hint is Any:
        return True
    if hint is None or hint is types.NoneType:
        return value is None
    if hint is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # NumPy's
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not fits(value, bool)
    if hint is Path:
        return isinstance(value, os.PathLike)
    if origin is type:
        return isinstance(value, type)
    if origin is Sequence:
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return listed and all(fits(each, inner[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(fits(key, inner[0]) for key in value)
    if origin is Callable:
        return callable(value)
    kind = origin or hint
    return isinstance(value, kind) if isinstance(kind, type) and not getattr(kind, "_is_protocol", False) else True


def words_for(hint: Any) -> str:
    """What to give, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(words_for(each) for each in inner if each is not types.NoneType))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is Sequence:
        return "a list" if inner[0] is Any else f"a list, each {words_for(inner[0])}"
    if origin is Mapping:
        return "a dict"
    if origin is Callable:
        return "a function"
    kind = type if origin is type else origin or hint
    return WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}")
