"""The policy that a verb plays with: that of a run, or one that nobody trained."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rltrain.cli.options import is_run
from rltrain.errors import ConfigError, plain
from rltrain.naming.environments import typed_env
from rltrain.registry import env_spec

if TYPE_CHECKING:
    from rltrain.runs.policy import Policy


def policy_of_run(parsed: argparse.Namespace) -> Policy:
    """Loads the policy of the run that was named, and prints its warnings.

    Raises:
        CheckpointError: It cannot be loaded.
        ConfigError: An option is for environments alone, or does not fit the run.
    """
    if parsed.policy is not None:
        raise ConfigError(f"'--policy' is for environments, and '{parsed.what}' is none.", "Leave it out.")
    return _loaded(parsed, "latest" if parsed.checkpoint is None else parsed.checkpoint)


def recorded_source(parsed: argparse.Namespace) -> Policy | str:
    """What RUN|ENV names, to record episodes of: a policy, whose warnings are printed, or the id of an environment.

    Raises:
        CheckpointError: The policy cannot be loaded.
        ConfigError: There is no such environment.
    """
    return _loaded(parsed, parsed.checkpoint) if is_run(parsed.what) else env_spec(typed_env(parsed.what)).id


def _loaded(parsed: argparse.Namespace, checkpoint: str | int) -> Policy:
    from rltrain.runs.policy import load

    policy = load(parsed.what, checkpoint=checkpoint, device=parsed.device, env=parsed.env)
    for line in policy.warnings:
        print(f"warning: {plain(line)}", file=sys.stderr)
    return policy


def named_env(parsed: argparse.Namespace) -> str:
    """The id of the environment that was named.

    Raises:
        ConfigError: There is none, or an option is for runs alone.
    """
    env_id = env_spec(typed_env(parsed.what)).id
    if parsed.checkpoint is not None:
        raise ConfigError(f"'{parsed.what}' is an environment: it has no checkpoints.", "Name a run folder.")
    return env_id
