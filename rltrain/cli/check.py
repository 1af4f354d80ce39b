"""``rltrain check``: checks whether an environment keeps the interface."""

from __future__ import annotations

import json

from rltrain.cli.options import EnvParser
from rltrain.cli.output import say


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

    from rltrain.check.conformance import check_env
    from rltrain.devices import pick_device

    report = check_env(parsed.env, device=pick_device(parsed.device), **env_kwargs)
    say(json.dumps(report.summary()) if parsed.json else report)
    return 0 if report.ok else 2
