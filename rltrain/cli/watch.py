"""``rltrain watch``: films an episode."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rltrain.cli.options import EnvParser, add_limits, add_module_option, whole
from rltrain.cli.output import say
from rltrain.cli.policies import named_env, policy_of_run
from rltrain.errors import ConfigError


def main(arguments: list[str]) -> int:
    """Films episodes."""
    parser = EnvParser("watch", "Film episodes: of a run's policy, or of one that nobody trained.")
    parser.add_argument("what", metavar="RUN|ENV", help="run folder, checkpoint in it, or environment id")
    parser.add_argument("--out", metavar="FILE.gif|.mp4", help="[<run>/videos/..., or <env>.gif here]")
    parser.add_argument("--policy", metavar="random|baseline", help="in an environment: who acts [random]")
    parser.add_argument("--checkpoint", metavar="best|latest|STEP", help="of a run [latest]")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the likeliest")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="INT", help="of the episode [0]")
    parser.add_argument("--episodes", type=whole(1), default=1, metavar="INT", help="one after another [1]")
    parser.add_argument("--no-captions", action="store_true", help="do not write the step and the return into it")
    add_limits(parser, "2,000")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N, mps, xpu or auto [auto]")
    add_module_option(parser)
    parsed, env_options = parser.parse_both(arguments)

    from rltrain.evaluation.limits import Limits

    options: dict[str, Any] = {
        "seed": parsed.seed,
        "episodes": parsed.episodes,
        "captions": not parsed.no_captions,
        "max_steps": parsed.max_steps,
        "limits": Limits(seconds=parsed.max_seconds, progress=True, what="film"),
    }
    if os.path.exists(Path(parsed.what)) or "checkpoints" in Path(parsed.what).parts:
        from rltrain.runs.folder import RunFolder
        from rltrain.runs.layout import step_name

        policy = policy_of_run(parsed)
        run = RunFolder.open(parsed.what)[0].path
        out = run / "videos" / f"{step_name(policy.step)}.gif" if parsed.out is None else Path(parsed.out)
        policy.make_vec(1, render=True, **env_options).close()  # refuses wrong constants before anything is created
        if parsed.out is None:
            try:
                out.parent.mkdir(exist_ok=True)
            except OSError as error:
                raise ConfigError(f"'{out.parent}' cannot be made: {error.strerror}.", "Give --out.") from error
        length = policy.film(out, deterministic=not parsed.stochastic, **options, **env_options)
    else:
        from contextlib import closing

        from rltrain.devices import pick_device
        from rltrain.evaluation.baselines import baseline_policy
        from rltrain.evaluation.video import film
        from rltrain.make import make_vec

        env_id = named_env(parsed)
        out = Path(f"{env_id.rpartition('/')[2]}.gif" if parsed.out is None else parsed.out)
        with closing(make_vec(env_id, 1, device=pick_device(parsed.device), render=True, **env_options)) as vec:
            length = film(vec, out, baseline_policy(vec, parsed.policy or "random", seed=parsed.seed), **options)
    say(f"{out}: {length} steps")
    return 0
