"""What ``rltrain models`` and ``rltrain hub`` have in common: a first word that says what to do, and the registry."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence

from rltrain.errors import ConfigError, did_you_mean


def check_action(
    verb: str,
    parsed: Namespace,
    actions: Mapping[str, str],
    taken: Mapping[str, Sequence[str]],
    words: Mapping[str, tuple[int, int]],
) -> None:
    """Checks that an action is known, and that it takes the options and words that were given.

    Args:
        verb: ``models`` or ``hub``.
        parsed: ``action``, ``words`` and the options.
        actions: What each action does.
        taken: The options that only some actions take, by action.
        words: The fewest and most words of each action; one where nothing is said.

    Raises:
        ConfigError: It is not, or does not.
    """
    action = parsed.action
    if action not in actions:
        fix = did_you_mean(action, actions, f"Give one of: {', '.join(actions)}.")
        raise ConfigError(f"There is no '{verb} {action}'.", fix)
    for name in (name for names in taken.values() for name in names):
        if getattr(parsed, name) not in (None, False) and name not in taken.get(action, ()):
            raise ConfigError(f"'{verb} {action}' takes no --{name.replace('_', '-')}.", "Leave it out.")
    fewest, most = words.get(action, (1, 1))
    if not fewest <= len(parsed.words) <= most:
        raise ConfigError(f"'{verb} {action}' takes other words.", f"{actions[action].capitalize()}.")


def registry_of(parsed: Namespace) -> tuple[str, bytes | None]:
    """The folder of the registry and the key, as options or the environment name them.

    Raises:
        ConfigError: The key cannot be read, or is too short.
    """
    from rltrain.model_registry.contents import read_key

    folder = parsed.registry or os.environ.get("RLTRAIN_MODELS") or "models"
    return folder, read_key(parsed.key_file or os.environ.get("RLTRAIN_MODELS_KEY"))
