"""``rltrain eval``: evaluates the policy of a run, or an untrained one."""

from __future__ import annotations

import json

from rltrain.cli.options import EnvParser, add_limits, add_module_option, is_run, whole
from rltrain.cli.output import say
from rltrain.cli.policies import named_env, policy_of_run
from rltrain.errors import ConfigError, plain


def main(arguments: list[str]) -> int:
    """Plays fresh episodes and prints the scores."""
    parser = EnvParser("eval", "Play fresh episodes with the policy of a run, or with one that nobody trained.")
    parser.add_argument("what", metavar="RUN|ENV", help="run folder, checkpoint in it, or environment id")
    parser.add_argument("--policy", metavar="random|baseline", help="in an environment: who acts [random]")
    parser.add_argument("--checkpoint", metavar="best|latest|STEP", help="of a run [latest]")
    parser.add_argument("--episodes", type=whole(1), default=100, metavar="INT", help="[100]")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the likeliest")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="INT", help="of the episodes [0]")
    add_limits(parser)
    parser.add_argument("--data", metavar="DIR", help="play nothing: estimate the value from this dataset")
    parser.add_argument("--gamma", type=float, help="discount of those estimates [that of the run, or 0.99]")
    parser.add_argument("--fqe-steps", type=whole(1), metavar="INT", help="gradient steps of fitted Q [4,000]")
    parser.add_argument("--behaviour", metavar="RUN", help="who recorded it, by samples [estimated by cloning]")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N, mps, xpu or auto [auto]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_module_option(parser)
    parsed, env_options = parser.parse_both(arguments)

    if parsed.data is not None:
        from rltrain.cli.evaluate_offline import estimate

        return estimate(parsed, env_options)
    if wrong := next((name for name in ("gamma", "fqe_steps", "behaviour") if getattr(parsed, name) is not None), None):
        raise ConfigError(
            f"'--{wrong.replace('_', '-')}' is for estimates from a dataset.", "Name one: --data DIR, or leave it out."
        )

    from rltrain.cli.report import describe
    from rltrain.evaluation.limits import Limits

    limits = Limits(parsed.max_steps, parsed.max_seconds, progress=True)
    if not is_run(parsed.what):
        from contextlib import closing
        from functools import partial

        from rltrain.devices import pick_device
        from rltrain.evaluation.baselines import evaluate_baseline
        from rltrain.evaluation.episodes import most_envs
        from rltrain.evaluation.limits import make_limited
        from rltrain.make import make_vec
        from rltrain.rng import derive_seed

        env_id = named_env(parsed)
        who = parsed.policy or "random"
        num_envs = min(parsed.episodes, most_envs(env_id))
        make = partial(make_vec, env_id, num_envs, device=pick_device(parsed.device), **env_options)
        with closing(make_limited(make, limits)) as vec:
            seed = derive_seed(parsed.seed, "fresh")
            result = evaluate_baseline(vec, who, parsed.episodes, seed=seed, limits=limits)
        source, title = {"policy": who}, f"{who} policy on {parsed.what}"
    else:
        policy = policy_of_run(parsed)
        how = {"deterministic": not parsed.stochastic, "seed": parsed.seed, "limits": limits}
        result = policy.evaluate(parsed.episodes, **how, **env_options)
        source = {"checkpoint": policy.step}
        title = f"checkpoint at {policy.step:,} steps of {policy.config.algo} on {policy.config.env.id}"
    if parsed.json:
        say(json.dumps({**result.summary(), **source}))
    else:
        say(plain(title))
        say(f"mean return {describe(result)}")
        say(f"mean episode length {result.lengths.mean():.1f}")
    return 0
