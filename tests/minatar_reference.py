"""Compares our MinAtar games with the authors' package: ours repeat every frame with the same random numbers.

Every frame of theirs is recorded: the state before, the action, every random number, and the outcome. A :class:`Twin`
translates theirs into ours. :func:`differences` advances ours from all the recorded states in one batch, and lists what
differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from minatar import Environment

from rltrain.envs.minatar.game import MinAtarGame
from rltrain.make import make_env
from rltrain.tree import children

Draws = list[Any]  # what the numpy generator returned in a frame, in order, after the coin for sticky actions
Fields = dict[str, Any]  # a state's or a chance's fields, those of one game


class Recorder:
    """A numpy RandomState that takes down what it returns."""

    def __init__(self, seed: int) -> None:
        self.random, self.drawn = np.random.RandomState(seed), []

    def rand(self, *shape: int) -> Any:
        """As numpy's."""
        return self._keep(self.random.rand(*shape))

    def randint(self, *args: int, **bounds: int) -> Any:
        """As numpy's."""
        return self._keep(self.random.randint(*args, **bounds))

    def _keep(self, drawn: Any) -> Any:
        self.drawn.append(np.copy(drawn))  # they change some in place
        return drawn


@dataclass
class Twin:
    """One game in both worlds."""

    module: str  # in minatar.environments
    env_id: str
    state: Callable[[Any], Fields]  # their game to our state, but for last_action
    # What was drawn in a frame, to our chance, but for repeat; our state before it is given, and a generator, as
    # where they drew nothing, anything should do.
    chance: Callable[[Fields, Draws, np.random.Generator], Fields]
    skilled: Callable[[Any, np.random.Generator], int]  # an action that lets the game last
    # Puts a state into their game that play may never lead to, if ours knows such states at all.
    scramble: Callable[[Any, np.random.Generator], None] | None = None


@dataclass
class Frames:
    """Frames of theirs, translated."""

    before: list[Fields] = field(default_factory=list)
    action: list[int] = field(default_factory=list)
    chance: list[Fields] = field(default_factory=list)
    after: list[Fields] = field(default_factory=list)
    obs: list[np.ndarray] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    terminal: list[bool] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)  # of the episodes that ended


def play(
    twin: Twin,
    steps: int,
    *,
    skill: float = 0.0,
    seed: int = 0,
    sticky: float = 0.1,
    ramping: bool = True,
    scramble: bool = False,
) -> Frames:
    """``steps`` frames of their game, episode after episode, from all six actions.

    Args:
        twin: The game.
        steps: Frames.
        skill: Share of the frames in which the skilled policy acts; the others are random.
        seed: Of their luck and of the actions.
        sticky: Their ``sticky_action_prob``.
        ramping: Their ``difficulty_ramping``.
        scramble: Whether every frame starts from a state of its own, made by the twin's ``scramble``.
    """
    env = Environment(twin.module, sticky_action_prob=sticky, difficulty_ramping=ramping)
    env.random = env.env.random = recorder = Recorder(seed)
    rng, frames, age = np.random.default_rng(seed), Frames(), 0
    env.reset()
    for _ in range(steps):
        if scramble:
            assert twin.scramble is not None
            twin.scramble(env.env, rng)
            env.env.terminal = False
        action = twin.skilled(env.env, rng) if rng.random() < skill else int(rng.integers(6))
        frames.before.append(twin.state(env.env) | {"last_action": env.last_action})
        recorder.drawn.clear()
        reward, terminal = env.act(action)
        coin, *drawn = recorder.drawn
        frames.action.append(action)
        frames.chance.append(twin.chance(frames.before[-1], drawn, rng) | {"repeat": coin < sticky})
        frames.after.append(twin.state(env.env) | {"last_action": env.last_action})
        frames.obs.append(env.state())
        frames.reward.append(reward)
        frames.terminal.append(terminal)
        age += 1
        if terminal and not scramble:
            frames.lengths.append(age)
            env.reset()
            env.last_action, age = 0, 0  # ours forgets it too; theirs would carry it into the next episode
    return frames


def batch(fields: list[Fields], like: Any) -> Any:
    """Many rows of fields as one of our states or chances, ``like`` the one given."""
    names = like._fields if hasattr(like, "_fields") else list(children(like))
    assert set(names) == set(fields[0]), "each field of ours has its counterpart"
    columns = {name: torch.tensor(np.array([row[name] for row in fields])) for name in names}
    return type(like)(**{name: column.to(getattr(like, name).dtype) for name, column in columns.items()})


def differences(twin: Twin, frames: Frames, **constants: Any) -> dict[str, int]:
    """In how many frames our state, observation, reward or end is not theirs, by name; nothing where all agree."""
    env = make_env(twin.env_id, minimal_actions=False, **constants)
    assert isinstance(env, MinAtarGame)
    rng = torch.Generator().manual_seed(0)
    state, chance = env.reset(1, rng), env.draw(1, rng)
    before, expected = batch(frames.before, state), batch(frames.after, state)
    after, reward, terminated = env.advance(before, torch.tensor(frames.action), batch(frames.chance, chance))
    pairs = {name: (getattr(after, name), getattr(expected, name)) for name in children(state)}
    pairs["obs"] = (env.observe(after), torch.tensor(np.array(frames.obs)))
    pairs["reward"] = (reward.double(), torch.tensor(frames.reward, dtype=torch.float64))
    pairs["terminated"] = (terminated, torch.tensor(frames.terminal))
    assert all(ours.shape == theirs.shape and ours.dtype == theirs.dtype for ours, theirs in pairs.values())
    wrong = {name: (ours != theirs).flatten(1 if ours.dim() > 1 else 0) for name, (ours, theirs) in pairs.items()}
    counts = {name: int((rows.any(1) if rows.dim() > 1 else rows).sum()) for name, rows in wrong.items()}
    return {name: count for name, count in counts.items() if count}


@contextmanager
def patched(target: Any, **values: Any) -> Iterator[None]:
    """Other values for the constants of one of their modules."""
    saved = {name: getattr(target, name) for name in values}
    for name, value in values.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in saved.items():
            setattr(target, name, value)
