"""The scorecard of what happens when things go wrong: ``python -m tests.torture --row 8``.

Every case is stored as it ends, in ``build/torture``; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from tests.torture import frame


def main() -> None:
    """Runs rows, prints the table, and exits with 1 if a case did not hold."""
    known = frame.rows()
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--row", type=int, nargs="+", choices=[*known], default=[*known], help="[all]")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="a few cases of each row, as the test suite runs them")
    form.add_argument("--all", action="store_true", help="every case of each row [the extra ones by a sample]")
    parser.add_argument("--seed", type=int, default=0, help="of the faults [0]")
    parser.add_argument("--jobs", type=int, help="cases at the same time [as each row says]")
    parser.add_argument("--results", type=Path, default=frame.RESULTS, help="[build/torture]")
    parser.add_argument("--only", metavar="REGEX", default="", help="only cases whose keys match it")
    parser.add_argument("--fresh", action="store_true", help="forget what is stored")
    parsed = parser.parse_args()
    if parsed.fresh:
        shutil.rmtree(parsed.results, ignore_errors=True)
    stored = {
        number: frame.run(
            known[number],
            short=parsed.short,
            whole=parsed.all,
            seed=parsed.seed,
            results=parsed.results,
            jobs=parsed.jobs,
            only=parsed.only,
        )
        for number in parsed.row
    }
    print(frame.table(stored))
    sys.exit(not all(case["held"] for cases in stored.values() for case in cases))


if __name__ == "__main__":
    main()
