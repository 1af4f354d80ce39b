"""``rltrain eval``: how good is the policy of a run."""

from __future__ import annotations

import json
import sys

from rltrain.cli.options import Parser, whole


def main(arguments: list[str]) -> int:
    """Plays fresh episodes and prints what came of them."""
    parser = Parser("eval", "Play fresh episodes with the policy of a run.")
    parser.add_argument("run", metavar="RUN", help="run folder, or a checkpoint in it")
    parser.add_argument("--checkpoint", default="latest", metavar="best|latest|STEP", help="[latest]")
    parser.add_argument("--episodes", type=whole(1), default=100, metavar="INT", help="[100]")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the likeliest")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="INT", help="of the episodes [0]")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or auto [auto]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)

    from rltrain.cli.report import describe
    from rltrain.policy import load

    policy = load(parsed.run, checkpoint=parsed.checkpoint, device=parsed.device)
    for line in policy.warnings:
        print(f"warning: {line}", file=sys.stderr)
    result = policy.evaluate(parsed.episodes, deterministic=not parsed.stochastic, seed=parsed.seed)
    if parsed.json:
        print(json.dumps({**result.summary(), "checkpoint": policy.step}))
    else:
        print(f"checkpoint at {policy.step:,} steps of {policy.config.algo} on {policy.config.env.id}")
        print(f"mean return {describe(result)}")
        print(f"mean episode length {result.lengths.mean():.1f}")
    return 0
