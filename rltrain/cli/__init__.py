"""The command line. Each verb is a function of its arguments that returns the exit code, imported when it is used."""

from __future__ import annotations

import os
import re
import sys
import warnings
from contextlib import nullcontext

from rltrain.cli.output import only_ours, open_streams, say
from rltrain.distributed.ranks import is_first
from rltrain.errors import (
    ESCAPES,
    ConfigError,
    RankFailed,
    RLTrainError,
    did_you_mean,
    ended_by,
    is_out_of_memory,
    notes_of,
    plain,
)
from rltrain.plugins import resolve, verbs
from rltrain.process.telemetry import switch_off

HELP = """usage: rltrain VERB ...

Reinforcement learning whose environments live on the device of the policy.

{verbs}

  rltrain VERB --help     what a verb takes
  rltrain --version       the version

Example: rltrain train ppo rltrain/CartPole-v1"""


MODULE = re.compile(r"(?!cuda:|cpu:|https?:)[A-Za-z_][\w.]*:(?:\S|$)")
"""The beginning of ``module:Id``, which only a person who types it can ask for."""
DEBUG = "RLTRAIN_DEBUG"


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0 for success; 2 for wrong usage or configuration; 3 for a run that failed; 4 for a run folder or
    checkpoint that cannot be used; 130 and 143 after SIGINT and SIGTERM.
    """
    if as_program := arguments is None:
        open_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    if as_program:
        switch_off()
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")  # films have no sound, and ALSA complains where no card is
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    warnings.showwarning = _show_warning
    if any(MODULE.match(argument) or _is_module_here(argument) for argument in arguments[1:]) and "" not in sys.path:
        sys.path.append("")  # a module in this folder may be named; installed modules come first
    built_in = arguments[:1] and str(getattr(verbs.get(arguments[0]), "entry_point", "")).startswith("rltrain.cli.")
    before = os.environ.get(DEBUG)
    if debug:
        os.environ[DEBUG] = "1"  # environments are checked in full, see rltrain.env_checks.schedule
    try:
        with only_ours(to_the_end=as_program) if built_in else nullcontext():  # other verbs print what they like
            return _run(arguments, debug=debug)
    finally:
        if debug and before is None:
            os.environ.pop(DEBUG, None)


def _is_module_here(argument: str) -> bool:
    """Whether an argument is the name of a module in the current folder."""
    first, *rest = argument.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        return False
    return os.path.isfile(f"{first}.py") or os.path.isfile(os.path.join(first, "__init__.py"))


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except RankFailed as error:  # which has already reported why
        if debug:
            raise
        return error.exit_code
    except RLTrainError as error:
        if debug:
            raise
        _print_error(error.cause, error.fix)
        return error.exit_code
    except SystemExit as leave:
        if isinstance(leave.code, int | None) and _is_of_argparse(leave):  # after --help
            return leave.code or 0
        if debug:
            raise
        failure = ended_by(leave)
        _print_error(failure.cause, failure.fix)
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has closed it, as `head` does
        if sys.stdout is not sys.stderr:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 0
    except OSError as error:
        if debug:
            raise
        where = f"'{error.filename}'" if error.filename else "A file"
        _print_error(f"{where} cannot be used: {error.strerror or error}.", _unknown(error, arguments)[1])
        return 3
    except Exception as error:
        if debug:
            raise
        _print_error(*_unknown(error, arguments))
        return 3


def _unknown(error: Exception, arguments: list[str]) -> tuple[str, str]:
    """Cause and fix of an exception that nobody foresaw: what was being done, and where the traceback is."""
    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if is_out_of_memory(error):
        smaller = (
            "--episodes" if arguments[:1] == ["eval"] else "--num-envs, a smaller --agent.n-steps or smaller networks"
        )
        return cause, f"Memory ran out. Use fewer {smaller}."
    doing, where = notes_of(error)
    fix = f"The traceback is in '{where}'." if where else "Run the same command with --debug to see where."
    return f"{cause.rstrip('.')}, {doing}." if doing else cause, fix


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, verbs), default=0) + 2
        lines = "\n".join(f"  {name:<{width}}{spec.help}" for name, spec in verbs.items())
        say(HELP.format(verbs=lines))
        return 0 if arguments else 2
    try:
        os.getcwd()
    except OSError as error:  # of which a library of C would die
        raise ConfigError("The folder that this is run in has been removed.", "Go to another one: cd") from error
    verb, *rest = arguments
    if verb == "--version":
        from rltrain import __version__

        say(f"rltrain {__version__}")
        return 0
    if verb not in verbs:
        from rltrain.naming.habits import VERBS

        if verb in VERBS:
            raise ConfigError(f"There is no verb '{verb}'.", f"Did you mean '{VERBS[verb]}'?")
        known = [*verbs, "--help", "--version"]
        raise ConfigError(f"There is no verb '{verb}'.", did_you_mean(verb, known, f"Known: {', '.join(verbs)}."))
    return int(resolve(verbs[verb].entry_point)(rest) or 0)


def _is_of_argparse(leave: SystemExit) -> bool:
    """Whether it was raised by the parser of a verb, rather than by an environment."""
    at = leave.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and at.tb_frame.f_globals.get("__name__") == "argparse"


def _print_error(cause: str, fix: str) -> None:
    """One line for the cause and one for the fix."""
    for head, text in (("error", cause), ("  fix", fix)):
        if text:
            print(f"{head}: {' '.join(plain(text).split())}", file=sys.stderr)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Prints our own warnings in one line, and drops those of libraries."""
    text = str(message)
    if category is UserWarning and is_first() and not ESCAPES.match(text):  # Gymnasium's are coloured
        print(f"warning: {plain(text)}", file=sys.stderr)
