"""``rltrain eval RUN --data DIR``: estimates the value of a policy from a dataset, without playing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from rltrain.cli.options import is_run
from rltrain.cli.output import say
from rltrain.cli.policies import policy_of_run
from rltrain.errors import ConfigError, plain


def estimate(parsed: argparse.Namespace, env_options: Mapping[str, Any]) -> int:
    """Prints the estimates.

    Raises:
        ConfigError: An option does not fit.
        CheckpointError: A run cannot be loaded.
        DatasetError: The dataset is damaged, or does not fit the policy.
    """
    from rltrain.data.dataset import Dataset
    from rltrain.evaluation.offline import FQE_STEPS, NAMES, evaluate_offline
    from rltrain.runs.policy import load

    if not is_run(parsed.what):
        raise ConfigError(f"'--data' is for the policy of a run, and '{parsed.what}' is none.", "Name a run folder.")
    if env_options:
        what = f"'--env.{next(iter(env_options)).replace('_', '-')}' is for an environment, and none is played in."
        raise ConfigError(what, "Leave it out.")
    dataset, policy = Dataset.open(parsed.data, verify=True), policy_of_run(parsed)
    behaviour = None if parsed.behaviour is None else load(parsed.behaviour, device=parsed.device).agent.actor
    gamma = parsed.gamma if parsed.gamma is not None else getattr(policy.config.agent, "gamma", 0.99)
    result = evaluate_offline(
        policy.agent.actor,
        policy.observation_space,
        policy.action_space,
        dataset,
        gamma=gamma,
        behaviour=behaviour,
        fqe_steps=parsed.fqe_steps or FQE_STEPS,
        deterministic=not parsed.stochastic,
        seed=parsed.seed,
        device=policy.device,
    )
    if parsed.json:
        say(json.dumps({**result.summary(), "checkpoint": policy.step, "data": dataset.checksum}))
        return 0
    say(plain(f"checkpoint at {policy.step:,} steps of {policy.config.algo} on the dataset '{dataset.name}'"))
    say(f"expected return, discounted by {gamma:g}, from {result.episodes} first observations, with 95% intervals")
    for name, each in result.estimates.items():
        say(f"  {NAMES[name]:<33} {each.value:>10.4g}   {each.interval[0]:.4g} to {each.interval[1]:.4g}")
    if result.effective is not None:
        say(f"  {'effective episodes':<33} {result.effective:>10.1f}")
    for note in result.notes:
        say(f"note: {note}")
    return 0
