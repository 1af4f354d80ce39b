"""Parses and describes nested options, such as ``--agent.learning-rate 0.001``; shared by all verbs."""

from __future__ import annotations

import argparse
import math
import os
import types
import typing
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from rltrain.cli.output import beside, broken, columns, say
from rltrain.cli.typed import Kind, argument_kinds, kinds_of, parse_value, read
from rltrain.config import EnvConfig
from rltrain.errors import ConfigError, did_you_mean
from rltrain.naming.arguments import GIVE_ONE, is_blank
from rltrain.naming.environments import typed_env
from rltrain.naming.habits import SHORT
from rltrain.registry import find_env
from rltrain.settings import validate

_looking: ContextVar[bool] = ContextVar("looking", default=False)


class _LookedAt(BaseException):
    """Ends a verb before it has parsed anything.

    Args:
        parser: Its parser.
    """

    def __init__(self, parser: Parser) -> None:
        super().__init__()
        self.parser = parser


class Parser(argparse.ArgumentParser):
    """An argument parser that raises errors of rltrain: one line, one fix, and the nearest names."""

    repeated: tuple[str, ...] = ()
    """Options that may be given several times."""

    def __init__(self, verb: str, description: str) -> None:
        super().__init__(
            prog=f"rltrain {verb}",
            description=description,
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, width=columns()),
        )
        self.epilog = "--debug shows a traceback instead of a line when something fails."

    def print_help(self, file: Any = None) -> None:
        """Prints the help where all verbs write."""
        say(broken(self.format_help().rstrip(), columns()))

    def error(self, message: str) -> NoReturn:
        """Raises an error instead of ending the process."""
        raise ConfigError(f"{message[0].upper()}{message[1:]}.", f"See '{self.prog} --help'.")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parses; ``_`` and ``-`` are the same in option names."""
        if _looking.get():
            raise _LookedAt(self)
        words = [dashed(argument) for argument in arguments]
        names = [word.partition("=")[0] for word in words if word.startswith("--")]
        once = (name for name in names if name not in self.repeated)
        if twice := next((name for name in once if names.count(name) > 1), None):
            raise ConfigError(f"'{twice}' is given twice.", "Give it once.")
        parsed, unknown = self.parse_known_args(words)
        check_words(words)
        for argument in unknown:
            name = argument.partition("=")[0]
            fix = did_you_mean(name, self._option_string_actions, f"See '{self.prog} --help'.")
            raise ConfigError(
                f"There is no option '{argument}'." if name[:1] == "-" else f"'{argument}' is too much.", fix
            )
        return parsed


def check_words(words: Sequence[str]) -> None:
    """Refuses words without a letter, such as a shell gives where a variable is not set.

    Raises:
        ConfigError: One is blank.
    """
    before = ""
    for word in words:
        option, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if is_blank(value) and (equals or not word.startswith("--")):
            what = f"'{option}' is given a blank value" if option.startswith("--") else "An argument is blank"
            raise ConfigError(f"{what}: '{value}'.", GIVE_ONE)
        before = word


def look_at(verb: Callable[[list[str]], object]) -> Parser:
    """The parser of a verb, which is called for it and ended where it would parse."""
    before = _looking.set(True)
    try:
        verb([])
    except _LookedAt as seen:
        return seen.parser
    finally:
        _looking.reset(before)
    raise TypeError(f"{verb} has no parser")


ENV_LISTS = ("env.reward_weights",)
"""Options of the environment that take several words."""


class EnvParser(Parser):
    """A parser that also takes options of the environment: ``--env.kwargs.gravity 1.6 --env.frame-stack 4``."""

    def __init__(self, verb: str, description: str) -> None:
        super().__init__(verb, description)
        self.epilog = (
            "--env.kwargs.NAME VALUE sets a constructor argument of the environment, --env.NAME VALUE an option "
            f"that 'rltrain train --help' lists. {self.epilog}"
        )

    def parse_both(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
        """Returns what :meth:`parse` returns, and the keyword arguments for :func:`~rltrain.make.make_vec`."""
        others: list[str] = []
        ours: list[str] = []
        rest = list(arguments)
        while rest:
            argument = rest.pop(0)
            if not argument.startswith("--env."):
                others.append(argument)
                continue
            ours.append(argument)
            if "=" not in argument and rest and not rest[0].startswith("--"):
                ours.append(rest.pop(0))
            if dashed(argument) == "--env.reward-weights":
                ours += take_words(rest)
        parsed = self.parse(others)
        named = getattr(parsed, "env", None) or getattr(parsed, "what", None)
        kinds = {**dict(kinds_of(EnvConfig, "env.")), **argument_kinds(named)} if ours else {}
        _, options = parse_overrides(ours, kinds=kinds, lists=ENV_LISTS)
        return parsed, validate(EnvConfig, {"id": "", **options.get("env", {})}, "env.").given()


def is_run(what: str) -> bool:
    """Whether RUN|ENV names a run: it is an existing path, or not the name of an environment."""
    path = Path(what)
    return (
        os.path.exists(path) or "checkpoints" in path.parts or (":" not in typed_env(what) and find_env(what) is None)
    )


def add_module_option(parser: Parser) -> None:
    """Adds ``--env``."""
    what = "name the run's environment by its module, which is imported; a run folder cannot ask for that itself"
    parser.add_argument("--env", metavar="MODULE:ID", help=what)


def add_limits(parser: Parser, steps: str = "27,000") -> None:
    """Adds ``--max-steps``, whose default in environments without a limit is ``steps``, and ``--max-seconds``."""
    what = f"leave an episode after so many steps [its own limit, or {steps} where there is none]"
    parser.add_argument("--max-steps", type=whole(1), metavar="INT", help=what)
    what = "end after so many seconds with what there is [600]"
    parser.add_argument("--max-seconds", type=whole(1), default=600, metavar="INT", help=what)


def whole(at_least: int) -> Callable[[str], int]:
    """A type for ``add_argument`` that reads whole numbers of at least ``at_least``."""

    def read(text: str) -> int:
        value = parse_value(text)
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if type(number) is not int or number < at_least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {at_least}")
        if number >= 2**63:
            raise argparse.ArgumentTypeError(f"'{text}' is not below 2**63, where the numbers of torch end")
        return number

    return read


def amount(text: str) -> float:
    """A type for ``add_argument`` that reads finite numbers above 0."""
    value = parse_value(text)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return float(value)


def dashed(argument: str) -> str:
    """Replaces ``_`` by ``-`` in the name of an option: ``--run_dir=my_runs`` becomes ``--run-dir=my_runs``."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


def parse_overrides(
    arguments: Sequence[str],
    *,
    flags: Container[str] = (),
    kinds: Mapping[str, Kind] | None = None,
    lists: Container[str] = (),
) -> tuple[list[str], dict[str, Any]]:
    """Splits a command line into positional arguments and a nested dict of options.

    Args:
        arguments: Such as ``["ppo", "rltrain/CartPole-v1", "--agent.gamma", "0.9", "--env.kwargs.gravity=1.6"]``.
        flags: Options that take no value.
        kinds: What options take, by name; of others the value is read as YAML.
        lists: Options that take all the words up to the next option, and none for an empty list.

    Returns:
        The positional arguments, and the options by section, such as
        ``{"agent": {"gamma": 0.9}, "env": {"kwargs": {"gravity": 1.6}}}``.
        An option without a value is True.

    Raises:
        ConfigError: An option is given twice, has no name, or has both a value and options below it.
    """
    positional: list[str] = []
    options: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            positional.append(argument)
            continue
        option, equals, text = argument.partition("=")
        path = option.removeprefix("--").replace("-", "_").split(".")
        name = ".".join(path)
        if not option.startswith("--") or not all(path):
            instead = f" Here it is {SHORT[option[1:]]}." if option[1:] in SHORT else ""
            raise ConfigError(f"There is no option '{option}'.", f"Options are written --name value.{instead}")
        if name in flags and equals:
            raise ConfigError(f"'{option}' takes no value.", f"Write {option} alone, or leave it out.")
        if name in lists and not equals:
            equals, text = "=", " ".join(take_words(rest)) or "[]"
        if not equals and name not in flags and rest and not rest[0].startswith("--"):
            equals, text = "=", rest.pop(0)
        branch = options
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"'{option}' and '--{part}' are both given.", "Give one of them.")
        if path[-1] in branch:
            raise ConfigError(f"'{option}' is given twice.", "Give it once.")
        branch[path[-1]] = read(text, (kinds or {}).get(name, Kind())) if equals else True
    return positional, options


def take_words(rest: list[str]) -> Iterator[str]:
    """Takes the words up to the next option off a list."""
    while rest and not rest[0].startswith("--"):
        yield rest.pop(0)


def describe_options(
    model: type[BaseModel], defaults: BaseModel | None = None, *, prefix: str = "", skip: Sequence[str] = ()
) -> Iterator[str]:
    """One line of help for each field of a model and its nested models, except the fields to skip."""
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        default = getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        default = None if default is PydanticUndefined else default
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if field.description:
                yield option_line(f"--{prefix}{name}", field.description, default)
            else:
                yield from describe_options(annotation, default, prefix=f"{prefix}{name}.")
        else:
            yield option_line(f"--{prefix}{name} {_kind(annotation)}", field.description or "", default)


def option_line(option: str, description: str, default: Any = None) -> str:
    """An option with its description beside it, and its default."""
    default = default.model_dump() if isinstance(default, BaseModel) else default
    shown = "" if default is None or default == {} else f" [{_plain(default)}]"
    name, _, kind = option.partition(" ")
    return beside(f"  {name.replace('_', '-')} {kind}".rstrip(), f"{description}{shown}", 46 if columns() > 100 else 30)


def _plain(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(annotation: Any) -> str:
    """What to type for a field: INT, FLOAT, TEXT, a choice..."""
    if annotation == list[str]:
        return "NAME ..."
    names = {int: "INT", float: "NUMBER", str: "TEXT", bool: "true|false", dict: "KEY VALUE"}
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [_kind(part) for part in typing.get_args(annotation) if part is not type(None)]
        return "|".join(dict.fromkeys(kinds))
    if typing.get_origin(annotation) is typing.Annotated:
        return _kind(typing.get_args(annotation)[0])
    return names.get(typing.get_origin(annotation) or annotation, "VALUE")
