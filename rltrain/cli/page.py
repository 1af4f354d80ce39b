"""``rltrain report``: writes a web page about runs."""

from __future__ import annotations

from pathlib import Path

from rltrain.cli.options import Parser
from rltrain.cli.output import say


def main(arguments: list[str]) -> int:
    """Writes the page."""
    parser = Parser(
        "report",
        "Write one web page about runs, which needs no other file and no network: curves, scores, films, settings, "
        "environments, versions, and what went wrong.",
    )
    parser.add_argument("runs", metavar="RUN|FOLDER", nargs="+", help="run folders, or folders with runs inside")
    parser.add_argument("--out", metavar="FILE.html", default="report.html", help="[report.html]")
    parsed = parser.parse(arguments)

    from rltrain.reports.page import write_report
    from rltrain.runs.summary import read_runs

    say(write_report(read_runs(parsed.runs), Path(parsed.out)))
    return 0
