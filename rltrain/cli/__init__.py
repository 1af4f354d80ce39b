"""The command line. Each verb is a function of its arguments that returns the exit code, imported when it is used."""

from __future__ import annotations

import os
import re
import sys
import warnings

from rltrain.distributed.ranks import is_first
from rltrain.errors import ConfigError, RankFailed, RLTrainError, did_you_mean, printable
from rltrain.plugins import resolve, verbs

HELP = """usage: rltrain VERB ...

Reinforcement learning whose environments live on the device of the policy.

{verbs}

  rltrain VERB --help     what a verb takes
  rltrain --version       the version

Example: rltrain train ppo rltrain/CartPole-v1"""


DEBUG = "Run the same command with --debug to see where."

MODULE = re.compile(r"(?!cuda:|cpu:|https?:)[A-Za-z_][\w.]*:\S")
"""The beginning of ``module:Id``, which only a person who types it can ask for."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0 for success; 2 for wrong usage or configuration; 3 for a run that failed; 4 for a run folder or
    checkpoint that cannot be used; 130 and 143 after SIGINT and SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    warnings.showwarning = _show_warning
    if any(MODULE.match(argument) for argument in arguments) and "" not in sys.path:
        sys.path.append("")  # a module in this folder may be named; installed modules come first
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
    except SystemExit as leave:  # argparse, after --help
        return int(leave.code or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 0
    except OSError as error:
        if debug:
            raise
        where = f"'{error.filename}'" if error.filename else "A file"
        _print_error(f"{where} cannot be used: {error.strerror or error}.", DEBUG)
        return 3
    except Exception as error:
        if debug:
            raise
        fix = DEBUG
        if "memory" in str(error):
            fix = "Use fewer --num-envs, a smaller --agent.n-steps or smaller networks."
        _print_error(f"{type(error).__name__}: {error}", fix)
        return 3


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, verbs), default=0) + 2
        lines = "\n".join(f"  {name:<{width}}{spec.help}" for name, spec in verbs.items())
        print(HELP.format(verbs=lines))
        return 0 if arguments else 2
    verb, *rest = arguments
    if verb == "--version":
        from rltrain import __version__

        print(f"rltrain {__version__}")
        return 0
    if verb not in verbs:
        known = [*verbs, "--help", "--version"]
        raise ConfigError(f"There is no verb '{verb}'.", did_you_mean(verb, known, f"Known: {', '.join(verbs)}."))
    return int(resolve(verbs[verb].entry_point)(rest) or 0)


def _print_error(cause: str, fix: str) -> None:
    """One line for the cause and one for the fix."""
    for head, text in (("error", cause), ("  fix", fix)):
        if text:
            print(f"{head}: {printable(' '.join(text.split()))}", file=sys.stderr)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Prints our own warnings in one line, and drops those of libraries."""
    if category is UserWarning and is_first():
        print(f"warning: {printable(str(message))}", file=sys.stderr)
