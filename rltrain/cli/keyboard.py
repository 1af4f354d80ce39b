"""A person at the keyboard of a terminal as a policy, for environments with a few actions."""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.errors import ConfigError
from rltrain.process.stopping import check
from rltrain.recording.recorder import Done
from rltrain.spaces import MASK
from rltrain.tree import leaves
from rltrain.vec import VecEnv

KEYS = "0123456789abcdefghijklmnoprstuvwxyz"  # without q
QUIT = ("q", "\x04")
ARROWS = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left"}
BY_ARROW = {2: {"left": 0, "right": 1}, 3: {"left": 0, "down": 1, "up": 1, "right": 2}}
"""What arrows mean, by the number of actions."""
ROWS, COLUMNS = 24, 72  # of the terminal that a picture takes at most


class Keyboard:
    """Asks for an action by a key in every step. Digits and letters count the actions from the first one; q ends.

    Args:
        vec: One environment.

    Raises:
        ConfigError: There is no terminal, or too many actions to have keys.
    """

    def __init__(self, vec: VecEnv) -> None:
        space = vec.single_action_space
        if not isinstance(space, spaces.Discrete) or space.n > len(KEYS):
            raise ConfigError(f"Nobody can act in {space} by single keys.", "Record with another policy.")
        if os.name != "posix" or not sys.stdin.isatty():
            raise ConfigError("There is no terminal to press keys in.", "Run it in a terminal of Linux or macOS.")
        self.vec, self.first, self.actions = vec, int(space.start), int(space.n)
        self.steps = 0
        arrows = f", arrows {'/'.join(BY_ARROW[self.actions])}" if self.actions in BY_ARROW else ""
        self.help = f"keys {KEYS[0]} to {KEYS[self.actions - 1]}{arrows}; q ends the recording"

    def __call__(self, obs: Any) -> Tensor:
        """Shows where things are, and waits for a key: (1,)."""
        mask = obs[MASK][0].tolist() if isinstance(obs, dict) and MASK in obs else [1] * self.actions
        self._show(obs)
        self.steps += 1
        with single_keys() as keys:
            for key in keys:
                if key in QUIT:
                    raise Done
                action = BY_ARROW.get(self.actions, {}).get(ARROWS.get(key, ""), KEYS.find(key) if key else -1)
                if 0 <= action < self.actions and mask[action]:
                    return torch.tensor([action + self.first], device=self.vec.device)
                print(f"  not now: {self.help}", file=sys.stderr, flush=True)
        raise Done  # the terminal is gone

    def _show(self, obs: Any) -> None:
        try:
            drawing = in_blocks(np.asarray(torch.as_tensor(self.vec.render(0)).cpu()))
        except (ConfigError, NotImplementedError, AssertionError, AttributeError):
            drawing = " ".join(f"{number:g}" for leaf in leaves(obs) for number in leaf[0].flatten().tolist()[:20])
        print(f"\x1b[H\x1b[2J{drawing}\nstep {self.steps}: {self.help}", file=sys.stderr, flush=True)


@contextmanager
def single_keys() -> Iterator[Iterator[str]]:
    """Keys as they are pressed, arrows as the sequences that terminals send; the terminal is as before afterwards."""
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle, termios.TCSANOW)
        yield _keys(handle)
    finally:
        termios.tcsetattr(handle, termios.TCSANOW, before)


def _keys(handle: int) -> Iterator[str]:
    while True:
        while not select.select([handle], [], [], 0.1)[0]:
            check()
        key = os.read(handle, 1)
        if not key:
            return
        if key == b"\x1b" and select.select([handle], [], [], 0.05)[0]:
            key += os.read(handle, 2)
        yield key.decode(errors="replace")


def in_blocks(picture: np.ndarray) -> str:
    """A picture (H, W, 3) uint8 as coloured half blocks, two rows of it in a line of the terminal."""
    height, width = picture.shape[:2]
    columns = min(COLUMNS, shutil.get_terminal_size().columns - 1)
    scale = max(height / (2 * ROWS), width / columns, 1.0)
    rows, columns = 2 * max(1, int(height / scale / 2)), max(1, int(width / scale))
    small = picture[(np.arange(rows) * height // rows)][:, np.arange(columns) * width // columns]
    lines = []
    for upper, lower in zip(small[0::2].tolist(), small[1::2].tolist(), strict=True):
        cells = (
            f"\x1b[38;2;{a};{b};{c};48;2;{d};{e};{f}m\u2580" for (a, b, c), (d, e, f) in zip(upper, lower, strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)
