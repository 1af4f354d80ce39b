"""Small folders of preferences for tests."""

from __future__ import annotations

from pathlib import Path

from rltrain.preferences.asking import ask
from rltrain.preferences.folder import Preferences

CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"


def asked(path: Path, env: str = CARTPOLE, *, pairs: int = 40, segment: int = 10, episodes: int = 16) -> Preferences:
    """Random episodes of an environment and questions about them."""
    ask(path, env, pairs=pairs, segment=segment, episodes=episodes)
    return Preferences.open(path)
