"""MiniGrid's tasks against the package minigrid 3.2: rules, view, rewards and ends, from the same worlds."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import gymnasium
import minigrid  # noqa: F401 (registers its environments)
import numpy as np
import pytest
import torch
from minigrid.core.world_object import Ball, Box, Door, Goal, Key, Lava, Wall
from torch import Tensor

from rltrain.envs.grid.dynamic_obstacles import BALL, DynamicObstacles
from rltrain.envs.grid.minigrid import MiniGrid
from rltrain.envs.grid.things import EMPTY, MINIGRID_TYPE_AND_STATE
from rltrain.errors import ConfigError
from rltrain.make import make_env
from rltrain.registry import env_specs

IDS = [id.removeprefix("rltrain/") for id in env_specs() if id.startswith("rltrain/MiniGrid-")]
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {  # sizes that have no id of ours
    "MiniGrid-DoorKey-16x16-v0": ("DoorKey-8x8", {"size": 16}),
    "MiniGrid-KeyCorridorS4R3-v0": ("KeyCorridorS3R3", {"room_size": 4}),
    "MiniGrid-SimpleCrossingS11N5-v0": ("SimpleCrossingS9N1", {"size": 11, "num_crossings": 5}),
    "MiniGrid-MemoryS17Random-v0": ("MemoryS13", {"size": 17, "random_length": True}),
    "MiniGrid-Dynamic-Obstacles-Random-6x6-v0": (
        "Dynamic-Obstacles-8x8",
        {"size": 6, "n_obstacles": 3, "random_start": True},
    ),
}
KIND = {numbers: int(kind) for kind, numbers in MINIGRID_TYPE_AND_STATE.items()}
COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
CHANGES = {  # of a cell or of what is carried, by kind
    *((kind, 1) for kind in (2, 3, 4)),  # taken, or a box opened
    *((1, kind) for kind in (2, 3, 4)),  # put down
    (7, 9),  # a door closed
    (9, 7),  # opened
    (10, 7),  # unlocked
}
STEPS = 500


def make_both(name: str) -> tuple[Any, MiniGrid]:
    """MiniGrid's environment and ours."""
    base, kwargs = OTHERS.get(name, (name.removeprefix("MiniGrid-").removesuffix("-v0"), {}))
    ours = make_env(f"rltrain/MiniGrid-{base}-v0", dtype=torch.float64, **kwargs)
    assert isinstance(ours, MiniGrid)
    return gymnasium.make(name).unwrapped, ours


def look_at(theirs: Any) -> dict[str, Any]:
    """MiniGrid's state in our terms."""

    def number_of(place: Any) -> int:
        return int(place[1]) * theirs.width + int(place[0])

    carried = (1, 0, 0) if theirs.carrying is None else theirs.carrying.encode()
    encoded = [*theirs.grid.encode().transpose(1, 0, 2).reshape(-1, 3).tolist(), carried]
    looks = {
        "cells": [8 * KIND[kind, state] + colour for kind, colour, state in encoded],
        "position": number_of(theirs.agent_pos),
        "direction": int(theirs.agent_dir),
        "step_count": theirs.step_count,
    }
    if hasattr(theirs, "success_pos"):
        looks |= {"right_end": number_of(theirs.success_pos), "wrong_end": number_of(theirs.failure_pos)}
    if hasattr(theirs, "obstacles"):
        looks["obstacles"] = [number_of(ball.cur_pos) for ball in theirs.obstacles]
    return looks


def state_of(env: MiniGrid, looks: list[dict[str, Any]]) -> Any:
    """Our states of those worlds."""
    fields = {name: column(looks, name) for name in looks[0]}
    fields["cells"] = fields["cells"].to(torch.uint8)
    return env.state_class(**fields, is_success=torch.zeros(len(looks), dtype=torch.bool))


def column(rows: list[dict[str, Any]], name: str) -> Tensor:
    return torch.as_tensor(np.array([row[name] for row in rows]))


def likely_action(theirs: Any, rng: np.random.Generator) -> int:
    """What is ahead is put to use, more often than not."""
    thing = theirs.grid.get(*theirs.front_pos)
    number = int(theirs.action_space.n)
    if rng.random() < 0.6 and number == 7:
        if thing is None or thing.type == "goal":
            return 2
        if thing.type in ("key", "ball"):
            return 3
        if thing.type == "door":
            return 2 if thing.is_open else 5
    return int(rng.integers(number))


def approach(theirs: Any, rng: np.random.Generator) -> None:
    """Puts the agent before one of the things in its world, perhaps with the key in its hand, perhaps in a door."""
    world = theirs.grid
    ways = [
        ((x, y), direction, thing)
        for x in range(1, theirs.width - 1)
        for y in range(1, theirs.height - 1)
        for direction, (dx, dy) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1)))
        if (world.get(x, y) is None or (isinstance(world.get(x, y), Door) and not hasattr(theirs, "door")))
        and (thing := world.get(x + dx, y + dy))
        and thing.type not in ("wall", "lava")
    ]
    if ways:
        kind = rng.choice(sorted({thing.type for *_, thing in ways}))
        ways = [way for way in ways if way[2].type == kind]
        theirs.agent_pos, theirs.agent_dir, thing = ways[rng.integers(len(ways))]
        if isinstance(thing, Door) and rng.random() < 0.6:
            theirs.carrying = Key(thing.color)
        here = world.get(*theirs.agent_pos)
        if isinstance(here, Door):
            here.is_open, here.is_locked = True, False


def clutter(theirs: Any, rng: np.random.Generator) -> None:
    """Fills the world with things of all kinds and puts the agent in the middle of them."""
    things = [Wall, Goal, Lava, *[lambda make=make: make(str(rng.choice(COLOURS))) for make in (Key, Ball, Box)]]
    things += [
        lambda o=o, k=k: Door(str(rng.choice(COLOURS)), o, k) for o, k in ((True, False), (False, False), (False, True))
    ]
    share = rng.random()
    for x in range(1, theirs.width - 1):
        for y in range(1, theirs.height - 1):
            theirs.grid.set(x, y, things[rng.integers(len(things))]() if rng.random() < share else None)
    theirs.agent_pos = (int(rng.integers(1, theirs.width - 1)), int(rng.integers(1, theirs.height - 1)))
    theirs.agent_dir = int(rng.integers(4))
    theirs.grid.set(*theirs.agent_pos, [None, Goal(), Lava(), Door("red", True)][rng.integers(4)])
    theirs.carrying = things[rng.choice([3, 3, 3, 4, 5])]() if rng.random() < 0.7 else None
    for door in theirs.grid.grid:  # a key that fits is rare enough
        if isinstance(door, Door) and isinstance(theirs.carrying, Key) and rng.random() < 0.5:
            door.color = theirs.carrying.color


def play(theirs: Any, steps: int, *, cluttered: bool = False) -> dict[str, list]:
    """Steps of MiniGrid's environment, from one episode into the next; cluttered ones are of one step each."""
    rng = np.random.default_rng(0)
    rows: dict[str, list] = defaultdict(list)
    ended = True
    for i in range(steps):
        if ended:
            theirs.reset(seed=i)
            theirs.step_count = int(rng.integers(theirs.max_steps - 15))
            if rng.random() < 0.5:
                approach(theirs, rng)
        if cluttered:
            clutter(theirs, rng)
        rows["before"].append(look_at(theirs))
        action = int(rng.integers(2, 6)) if cluttered else likely_action(theirs, rng)
        rows["action"].append(action)
        obs, reward, terminated, truncated, _ = theirs.step(action)
        ended = terminated or truncated or rng.random() < 0.03
        outcome = {"image": obs["image"], "reward": reward, "terminated": terminated, "truncated": truncated}
        rows["after"].append(look_at(theirs) | outcome)
    return rows


def moves_between(before: dict[str, Any], after: dict[str, Any], width: int) -> list[int]:
    """The luck that makes our balls move as MiniGrid's have moved."""
    cells, moves = list(before["cells"]), []
    for old, new in zip(before["obstacles"], after["obstacles"], strict=True):
        about = [old + y * width + x for y in (-1, 0, 1) for x in (-1, 0, 1)]
        free = [cell for cell in about if cells[cell] == EMPTY and cell != before["position"]]
        assert (new in free) if free else (new == old)
        moves.append((840 * free.index(new) + 420) // len(free) if free else 0)
        cells[old] = EMPTY
        cells[new] = BALL
    return moves


def assert_same(ours: MiniGrid, rows: dict[str, list], *, aims: bool = True) -> None:
    """Our steps lead where MiniGrid's did; the task's aims may be left out."""
    before = state_of(ours, rows["before"])
    if isinstance(ours, DynamicObstacles):
        moves = torch.tensor(
            [moves_between(*pair, ours.width) for pair in zip(rows["before"], rows["after"], strict=True)]
        )
        move = ours.move
        ours.move = lambda state, _: move(state, moves)  # type: ignore[method-assign]
    after, reward, terminated = ours.step(before, torch.tensor(rows["action"]), None)
    for name in rows["before"][0]:
        assert torch.equal(getattr(after, name).long(), column(rows["after"], name)), name
    obs = ours.observe(after)
    assert torch.equal(obs["image"], column(rows["after"], "image"))
    assert torch.equal(obs["direction"], after.direction)
    assert torch.equal(after.step_count >= ours.max_steps, column(rows["after"], "truncated"))
    if not aims:
        return
    torch.testing.assert_close(reward, column(rows["after"], "reward").double(), rtol=0, atol=1e-12)
    assert torch.equal(terminated, column(rows["after"], "terminated"))
    assert torch.equal(ours.info(after)["is_success"], column(rows["after"], "reward") > 0)


@pytest.mark.parametrize("name", [*IDS, *OTHERS])
def test_steps_are_minigrids(name: str) -> None:
    theirs, ours = make_both(name)
    rows = play(theirs, STEPS)
    assert_same(ours, rows)
    assert (column(rows["after"], "reward") > 0).any()
    assert "Lava" not in name or (column(rows["after"], "terminated") & (column(rows["after"], "reward") == 0)).any()


@pytest.mark.parametrize("name", ["MiniGrid-DoorKey-8x8-v0", "MiniGrid-Unlock-v0", "MiniGrid-Empty-5x5-v0"])
def test_any_world_is_seen_and_acted_on_as_in_minigrid(name: str) -> None:
    theirs, ours = make_both(name)
    rows = play(theirs, 3 * STEPS, cluttered=True)
    assert_same(ours, rows, aims="Unlock" not in name)  # its aim is a door of its own
    before, after = column(rows["before"], "cells"), column(rows["after"], "cells")
    kinds = {(int(a) >> 3, int(b) >> 3) for a, b in zip(before[before != after], after[before != after], strict=True)}
    assert kinds >= CHANGES


@pytest.mark.parametrize("name", IDS)
def test_spaces_and_limits_are_minigrids(name: str) -> None:
    theirs, ours = make_both(name)
    assert ours.observation_space["image"] == theirs.observation_space["image"]  # type: ignore[index]
    assert ours.observation_space["direction"] == theirs.observation_space["direction"]  # type: ignore[index]
    assert ours.action_space == theirs.action_space
    assert (ours.width, ours.height, ours.max_steps) == (theirs.width, theirs.height, theirs.max_steps)
    spec = env_specs()[f"rltrain/{name}"]
    assert spec.max_episode_steps == ours.max_steps == ours.max_episode_steps


def test_the_view_as_categories_holds_the_same_numbers() -> None:
    seen = []
    for view in ("image", "categories"):
        env = make_env("rltrain/MiniGrid-DoorKey-8x8-v0", view=view)
        obs = env.observe(env.reset(64, torch.Generator().manual_seed(0)))
        assert isinstance(obs, dict)
        assert all(row in env.observation_space["image"] for row in obs["image"].numpy())  # type: ignore[index]
        seen.append(obs["image"].view(64, -1))
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("Empty-5x5", {"size": 3}),
        ("Empty-5x5", {"random_start": 1}),
        ("Empty-5x5", {"view": "pixels"}),
        ("Empty-5x5", {"max_steps": 0}),
        ("DoorKey-5x5", {"size": 4}),
        ("FourRooms", {"size": 10}),
        ("Unlock", {"room_size": 3}),
        ("KeyCorridorS3R1", {"num_rows": 0}),
        ("LavaGapS5", {"obstacle": "water"}),
        ("LavaCrossingS9N1", {"num_crossings": 7}),
        ("MemoryS7", {"size": 8}),
        ("Dynamic-Obstacles-5x5", {"n_obstacles": 4}),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(kwargs))) as caught:
        make_env(f"rltrain/MiniGrid-{name}-v0", **kwargs)
    assert caught.value.fix
