"""``rltrain retrain``: trains a policy again when what it meets has changed."""

from __future__ import annotations

import json
from pathlib import Path

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.errors import plain


def main(arguments: list[str]) -> int:
    """Runs the loop once."""
    parser = Parser(
        "retrain",
        "Run the loop once: collect episodes of the champion in use, check them, look for drift, train on from the "
        "champion, and promote the new version if it passes the gate. Leaves with 0 if nobody has to look, with 1 if "
        "the data is unfit or the gate refuses. What was killed goes on where it was.",
    )
    parser.add_argument("policy", metavar="POLICY.yaml", help="how the policy is kept up to date (docs/retraining.md)")
    what = "name the environment by its module, which is imported"
    parser.add_argument("--env", metavar="MODULE:ID", help=what)
    parser.add_argument(
        "--status", action="store_true", help="print what the cycles did, an object each, and do nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the cycle as one JSON object at its end")
    parsed = parser.parse(arguments)

    if parsed.status:
        from rltrain.retraining.cycle import cycles_in
        from rltrain.retraining.policy_file import read_policy_file

        for cycle in cycles_in(Path(str(read_policy_file(parsed.policy).folder))):
            say(plain(json.dumps(cycle.state)))
        return 0

    from rltrain.retraining.loop import retrain

    outcome = retrain(
        parsed.policy, env=parsed.env, tell=(lambda _: None) if parsed.json else lambda line: say(plain(line))
    )
    if parsed.json:
        say(json.dumps(outcome.cycle.state))
    return outcome.exit_code
