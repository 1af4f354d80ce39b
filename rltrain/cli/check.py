"""``rltrain check``: checks whether an environment keeps the interface."""

from __future__ import annotations

import json
import sys
import time

from rltrain.cli.options import EnvParser
from rltrain.cli.output import say

SILENCE = 5.0  # seconds after which a line says what is being checked


def main(arguments: list[str]) -> int:
    """Checks an environment and prints what was found; 2 if there are errors."""
    parser = EnvParser("check", "Check an environment: spaces, types, seeds, memory, devices, resets, speed.")
    parser.add_argument("env", metavar="ENV", help="environment id, of ours or of Gymnasium's; module:id imports first")
    parser.add_argument(
        "--device",
        default="auto",
        help="where a tensor environment is checked: cpu, cuda, cuda:N, mps, xpu or auto [auto]",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed, env_kwargs = parser.parse_both(arguments)

    from rltrain.check.conformance import check_aloud
    from rltrain.devices import pick_device

    began = shown = time.monotonic()

    def tell(name: str) -> None:
        nonlocal shown
        if (now := time.monotonic()) - shown >= SILENCE:
            shown = now
            print(f"  check: {name}, {now - began:.0f} s", file=sys.stderr)

    report = check_aloud(parsed.env, tell, device=pick_device(parsed.device), **env_kwargs)
    say(json.dumps(report.summary()) if parsed.json else report)
    return 0 if report.ok else 2
