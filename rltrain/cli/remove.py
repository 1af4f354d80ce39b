"""``rltrain rm``: removes runs."""

from __future__ import annotations

import sys
from pathlib import Path

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.cli.tables import size
from rltrain.errors import ConfigError, plain


def main(arguments: list[str]) -> int:
    """Removes run folders after asking."""
    parser = Parser("rm", "Remove run folders, with all checkpoints and films. Nothing but run folders is removed.")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parsed = parser.parse(arguments)

    from rltrain.runs.removal import check_removable, remove_run, size_of

    paths = list(dict.fromkeys(Path(run) for run in parsed.runs))
    for path in paths:  # before any of them is removed
        check_removable(path)
    sizes = [size_of(path) for path in paths]
    if not parsed.yes:
        for path, (number, bytes_) in zip(paths, sizes, strict=True):
            print(plain(f"{path}: {number:,} files, {size(bytes_)}"), file=sys.stderr)
        if not sys.stdin.isatty():
            raise ConfigError("Nobody can be asked whether these may go.", "Say --yes.")
        which = "it" if len(paths) == 1 else f"these {len(paths)} runs"
        print(f"Remove {which} for good? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("Nothing was removed.", file=sys.stderr)
            return 1
    for path, (_, bytes_) in zip(paths, sizes, strict=True):
        remove_run(path)
        say(plain(f"removed {path} ({size(bytes_)})"))
    return 0
