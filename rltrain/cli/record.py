"""``rltrain record``: records episodes as a dataset."""

from __future__ import annotations

import json
import shlex

from rltrain.cli.options import EnvParser, add_module_option, whole
from rltrain.cli.output import say
from rltrain.cli.policies import recorded_source
from rltrain.errors import ConfigError, plain


def main(arguments: list[str]) -> int:
    """Records whole episodes and prints what there is."""
    parser = EnvParser("record", "Record whole episodes of a run's policy, or of others, as a dataset.")
    parser.repeated = ("--policy",)
    parser.add_argument("what", metavar="RUN|ENV", help="run folder, checkpoint in it, or environment id")
    what = "random, baseline, keyboard or a run folder; several times, with =SHARE, to mix [that of RUN, or random]"
    parser.add_argument("--policy", metavar="NAME[=SHARE]", action="append", default=[], help=what)
    parser.add_argument("--episodes", type=whole(1), default=100, metavar="INT", help="exactly so many [100]")
    parser.add_argument("--out", metavar="DIR", help="folder to make; it must not be there")
    parser.add_argument("--name", metavar="TEXT", default="", help="the dataset's name [that of the folder]")
    parser.add_argument("--checkpoint", metavar="best|latest|STEP", default="latest", help="of runs [latest]")
    parser.add_argument("--stochastic", action="store_true", help="runs sample actions instead of taking the likeliest")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="INT", help="of the episodes [0]")
    parser.add_argument("--num-envs", type=whole(1), metavar="INT", help="environments side by side [256, or 16]")
    what = "leave an episode after so many steps, as truncated [its own limit, or 27,000 where there is none]"
    parser.add_argument("--max-steps", type=whole(1), metavar="INT", help=what)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N, mps, xpu or auto [auto]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_module_option(parser)
    parsed, env_options = parser.parse_both(arguments)
    if parsed.out is None:
        raise ConfigError("It is not said where the dataset is to be.", "Give --out DIR.")

    from rltrain.cli.keyboard import Keyboard
    from rltrain.devices import pick_device
    from rltrain.evaluation.limits import Limits
    from rltrain.process.stopping import Stopped
    from rltrain.recording.recorder import record
    from rltrain.training.signals import Interrupt

    source = recorded_source(parsed)
    try:
        with Interrupt(saying="ending this round; once more to leave now"):
            dataset = record(
                source,
                parsed.out,
                policies=parsed.policy,
                episodes=parsed.episodes,
                stochastic=parsed.stochastic,
                seed=parsed.seed,
                num_envs=parsed.num_envs,
                checkpoint=parsed.checkpoint,
                device=pick_device(parsed.device),
                name=parsed.name,
                limits=Limits(parsed.max_steps, None, progress=True, what="recording"),
                keyboard=Keyboard,
                **env_options,
            )
    except Stopped as stop:
        again = shlex.join(["rltrain", "record", *arguments])
        say(f"interrupted; the rounds that were over are kept for: {again}")
        return stop.exit_code
    if parsed.json:
        summary = {"path": str(dataset.path), "episodes": len(dataset.episodes), "steps": len(dataset)}
        say(json.dumps({**summary, "checksum": dataset.checksum}))
        return 0
    from rltrain.cli.data import summary_lines

    say(plain("\n".join(summary_lines(dataset))))
    return 0
