"""MiniGrid's tasks against the package minigrid 3.2: every rule, the view, rewards and ends, from the same worlds."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import gymnasium
import minigrid  # noqa: F401 (registers its environments)
import numpy as np
import pytest
import torch
from torch import Tensor

from rltrain.envs.grid.minigrid import MiniGrid
from rltrain.envs.grid.view import PICTURED
from rltrain.registry import env_specs, make_env

IDS = [id for id in env_specs() if id.startswith("rltrain/MiniGrid-")]
KIND = {pictured: kind for kind, pictured in enumerate(PICTURED)}  # by MiniGrid's type and state
STEPS = 800
COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")


def twin_of(env_id: str) -> Any:
    """MiniGrid's own environment of that name."""
    return gymnasium.make(env_id.removeprefix("rltrain/")).unwrapped


def look_at(theirs: Any) -> dict[str, Any]:
    """MiniGrid's state in our terms."""
    carried = (1, 0, 0) if theirs.carrying is None else theirs.carrying.encode()
    encoded = [*theirs.grid.encode().transpose(1, 0, 2).reshape(-1, 3).tolist(), carried]
    return {
        "cells": [8 * KIND[kind, state] + colour for kind, colour, state in encoded],
        "position": number_of(theirs, theirs.agent_pos),
        "direction": int(theirs.agent_dir),
        "step_count": theirs.step_count,
    }


def number_of(theirs: Any, place: Any) -> int:
    """Our number of a cell."""
    return int(place[1]) * theirs.width + int(place[0])


def likely_action(theirs: Any, rng: np.random.Generator) -> int:
    """Something sensible to do with what is ahead more often than not, else anything."""
    thing = theirs.grid.get(*theirs.front_pos)
    if rng.random() < 0.6:
        if thing is None or thing.type == "goal":
            return 2
        if thing.type in ("key", "ball"):
            return 3 if theirs.carrying is None else 4
        if thing.type == "door":
            return 2 if thing.is_open else 5
    return int(rng.integers(theirs.action_space.n))


def play(theirs: Any, steps: int) -> dict[str, list]:
    """Steps of MiniGrid's environment, from one episode into the next."""
    rng = np.random.default_rng(0)
    rows: dict[str, list] = defaultdict(list)
    ended = True
    for i in range(steps):
        if ended:
            theirs.reset(seed=i)
            theirs.step_count = int(rng.integers(theirs.max_steps - 20))
        rows["before"].append(look_at(theirs))
        rows["action"].append(action := likely_action(theirs, rng))
        obs, reward, terminated, truncated, _ = theirs.step(action)
        ended = terminated or truncated
        after = {
            **look_at(theirs),
            "image": obs["image"],
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
        }
        rows["after"].append(after)
    return rows


def column(rows: list[dict[str, Any]], name: str) -> Tensor:
    return torch.as_tensor(np.array([row[name] for row in rows]))


def state_of(env: MiniGrid, rows: list[dict[str, Any]]) -> Any:
    """Our states of those worlds."""
    known = {name: column(rows, name) for name in rows[0]}
    known["cells"] = known["cells"].to(torch.uint8)
    return env.state_class(**known, is_success=torch.zeros(len(rows), dtype=torch.bool))


@pytest.mark.parametrize("env_id", IDS)
def test_steps_are_minigrids(env_id: str) -> None:
    theirs, ours = twin_of(env_id), make_env(env_id, dtype=torch.float64)
    rows = play(theirs, STEPS)
    after, reward, terminated = ours.step(state_of(ours, rows["before"]), torch.tensor(rows["action"]), None)
    for name in ("cells", "position", "direction", "step_count"):
        assert torch.equal(getattr(after, name), column(rows["after"], name).to(getattr(after, name).dtype)), name
    obs = ours.observe(after)
    assert torch.equal(obs["image"], column(rows["after"], "image"))
    assert torch.equal(obs["direction"], after.direction)
    torch.testing.assert_close(reward, column(rows["after"], "reward").double(), rtol=0, atol=1e-12)
    assert torch.equal(terminated, column(rows["after"], "terminated"))
    assert torch.equal(after.is_success, column(rows["after"], "reward") > 0)
    assert torch.equal(after.step_count >= ours.max_steps, column(rows["after"], "truncated"))
