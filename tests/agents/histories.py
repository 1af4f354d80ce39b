"""Random episodes, recorded in plain lists and stored in a replay at the same time."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from rltrain.agents.parts.replay import Batch, Replay
from rltrain.vec import VecStep

GAMMA = 0.9


class Event(NamedTuple):
    """A step of one environment. Observations are numbers that never come twice."""

    seen: int
    action: int
    reward: float
    led_to: int
    terminated: bool
    truncated: bool


class Fate(NamedTuple):
    """What a transition of several steps comes to."""

    reward: float
    led_to: int
    discount: float
    terminated: bool


def show(numbers: list[int]) -> dict[str, Tensor]:
    """Numbers as observations of three types."""
    number = torch.tensor(numbers)
    pixels = (number % 256).to(torch.uint8)
    return {
        "number": number.unsqueeze(1).float(),
        "pixels": pixels.view(-1, 1, 1).expand(-1, 2, 3),
        "odd": number % 2 == 1,
    }


class Histories:
    """N environments.

    Args:
        replays: What is fed.
        seed: Of everything random.
        ends: Chance of a termination and of a truncation in each step, by environment.
    """

    def __init__(self, *replays: Replay, seed: int = 0, ends: tuple[float, float] | list[tuple[float, float]]) -> None:
        self.replays = list(replays)
        self.n = replays[0].num_envs
        self.ends = ends if isinstance(ends, list) else [ends] * self.n
        self.chance = random.Random(seed)
        self.events: list[list[Event]] = [[] for _ in range(self.n)]
        self.places: list[list[int]] = [[] for _ in range(self.n)]  # rows before each event, if none came twice
        self.rows = [0] * self.n
        self.numbers = 0
        self.now = [self.fresh() for _ in range(self.n)]

    def fresh(self) -> int:
        self.numbers += 1
        return self.numbers

    def play(self, steps: int = 1) -> None:
        """Steps all environments."""
        for _ in range(steps):
            made = [self._event(env) for env in range(self.n)]
            column = {name: [getattr(event, name) for event in made] for name in Event._fields}
            first = [self.fresh() if e.terminated or e.truncated else e.led_to for e in made]
            flags = torch.tensor(column["terminated"]), torch.tensor(column["truncated"])
            nothing = torch.zeros(self.n)
            step = VecStep(
                show(first), torch.tensor(column["reward"]), *flags, show(column["led_to"]), nothing, nothing, {}
            )
            for replay in self.replays:
                replay.begin(show(self.now))
                replay.add(torch.tensor(column["action"]), step)
            self.now = first

    def _event(self, env: int) -> Event:
        terminated = self.chance.random() < self.ends[env][0]
        truncated = not terminated and self.chance.random() < self.ends[env][1]
        reward = float(self.chance.randint(-8, 8))
        event = Event(self.now[env], self.chance.randint(0, 4), reward, self.fresh(), terminated, truncated)
        self.events[env].append(event)
        self.places[env].append(self.rows[env])
        self.rows[env] += 1 + truncated
        return event

    def kept(self, replay: Replay) -> dict[int, tuple[int, int]]:
        """Environment and index of every step that a replay must still have, by what was seen in it."""
        return {
            event.seen: (env, index)
            for env, events in enumerate(self.events)
            for index, event in enumerate(events)
            if self.places[env][index] > self.rows[env] - replay.rows
        }

    def fate(self, env: int, first: int, n_steps: int) -> Fate:
        """What came of a step: rewards up to the end of the episode, of what is known, or of ``n_steps``."""
        reward, discount = 0.0, 1.0
        for event in self.events[env][first : first + n_steps]:
            reward += discount * event.reward
            discount *= GAMMA
            if event.terminated or event.truncated:
                break
        return Fate(reward, event.led_to, discount, event.terminated)

    def check(self, replay: Replay, batch: Batch) -> list[int]:
        """Holds every transition with a weight against the lists; what was seen in each place drawn."""
        kept = self.kept(replay)
        seen = batch.obs["number"].flatten().int().tolist()
        names = ("place", "weight", "action", "reward", "discount", "terminated")
        columns = zip(seen, *(getattr(batch, name).tolist() for name in names), strict=True)
        places: dict[int, int] = {}  # seen in each, of those with a weight
        for row, (number, place, weight, *found) in enumerate(columns):
            if weight == 0 or place in places:
                assert places.get(place, number) == number
                continue
            assert number in kept, "overwritten, or no step"
            env, index = kept[number]
            fate = self.fate(env, index, replay.n_steps)
            wanted = [self.events[env][index].action, fate.reward, fate.discount, fate.terminated]
            assert found == pytest.approx(wanted, abs=1e-5)
            assert_shown(batch.obs, row, number)
            if not fate.terminated:
                assert_shown(batch.next_obs, row, fate.led_to)
            places[place] = number
        return list(places.values())


def assert_shown(obs: dict[str, Tensor], row: int, number: int) -> None:
    for name, wanted in show([number]).items():
        assert obs[name].dtype == wanted.dtype
        assert torch.equal(obs[name][row], wanted[0]), (name, row)


def chi_square(counts: Tensor, expected: Tensor) -> float:
    """How far counts are from what was expected, in deviations of the statistic if it is right."""
    freedom = len(counts) - 1
    return ((((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5).item()
