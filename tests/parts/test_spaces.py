"""Spaces as JSON, and random actions inside them."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.errors import CheckpointError, ConfigError
from rltrain.spaces import from_json, random_actions, to_json

CPU = torch.device("cpu")
F = np.float32
HALF = spaces.Box(np.array([-np.inf, 0.0, -1.0], F), np.array([1.0, np.inf, 1.0], F))
BOXES = [
    spaces.Box(-1.0, 1.0, (3,)),
    spaces.Box(-1.0, 1.0, ()),
    spaces.Box(-np.inf, np.inf, (2, 2)),
    HALF,
    spaces.Box(np.array([0.1, -0.3], F), np.array([0.7, 1e30], F)),
    spaces.Box(-0.1, 0.1, (2,), np.float64),
    spaces.Box(-3e38, 3e38, (2,)),
]
ACTIONS = [
    *BOXES,
    spaces.Discrete(5),
    spaces.Discrete(3, start=-2),
    spaces.MultiDiscrete([2, 7]),
    spaces.MultiDiscrete([2, 7], start=[-3, 4]),
    spaces.MultiDiscrete([[2, 3], [4, 5]]),
    spaces.MultiBinary(4),
    spaces.MultiBinary((2, 3)),
]
OTHERS = [
    spaces.Box(0, 255, (84, 84, 3), np.uint8),
    spaces.Box(0, 1, (10, 10, 4), bool),
    spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64),
    spaces.Dict({"observation": HALF, "action_mask": spaces.MultiBinary(3), "deep": spaces.Discrete(2)}),
    spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [-2, 0]]),
    spaces.MultiDiscrete([3, 200], dtype=np.uint8),
    spaces.Dict({0: spaces.Discrete(2), 1: HALF}),  # type: ignore[dict-item]
    *([spaces.Discrete(3, dtype=np.int32)] if "dtype" in inspect.signature(spaces.Discrete).parameters else []),
    spaces.Tuple((spaces.Discrete(2), spaces.Tuple((HALF, spaces.Dict({"a/b": spaces.Text(3)}))))),
    spaces.Text(7, min_length=0, charset="ab é\n"),
    spaces.OneOf((spaces.Discrete(2), HALF)),
    spaces.Sequence(spaces.Box(-1.0, 1.0, (2,)), stack=True),
    spaces.Graph(spaces.Box(-1.0, 1.0, (2,)), None),
    spaces.Graph(spaces.Discrete(3), spaces.Discrete(4)),
]


@pytest.mark.parametrize("space", [*ACTIONS, *OTHERS], ids=str)
def test_survives_json(space: spaces.Space) -> None:
    text = json.dumps(to_json(space))
    again = from_json(json.loads(text))
    assert again == space
    assert again.dtype == space.dtype
    assert again.shape == space.shape
    assert to_json(again) == json.loads(text)


def test_equal_bounds_are_one_number() -> None:
    assert len(json.dumps(to_json(OTHERS[0]))) < 120
    assert to_json(HALF)["low"] == [-np.inf, 0.0, -1.0]


class Sphere(spaces.Space[Any]):
    """A space that Gymnasium does not have."""

    def __repr__(self) -> str:
        return "Sphere()"


@pytest.mark.parametrize("space", [Sphere(), spaces.Tuple([spaces.Discrete(2), Sphere()])], ids=["alone", "in a tuple"])
def test_refuses_other_spaces(space: spaces.Space) -> None:
    with pytest.raises(ConfigError, match="not supported"):
        to_json(space)


def test_keys_are_text_or_whole_numbers() -> None:
    with pytest.raises(ConfigError, match=r"the key \(1, 2\)"):
        to_json(spaces.Dict([((1, 2), spaces.Discrete(2))]))  # type: ignore[list-item]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"type": "Sphere"},
        {"type": "Discrete"},
        {"type": "Box", "shape": [2], "dtype": "float32", "low": [0, 0, 0], "high": 1},
        {"type": "Box", "shape": [2], "dtype": "float33", "low": 0, "high": 1},
        {"type": "Dict", "spaces": {"a": {"type": "Discrete", "n": "many", "start": 0}}},
    ],
    ids=str,
)
def test_damaged_json_is_a_checkpoint_error(data: dict) -> None:
    with pytest.raises(CheckpointError):
        from_json(data)


@pytest.mark.parametrize("space", ACTIONS, ids=str)
def test_random_actions_are_inside(space: spaces.Space) -> None:
    actions = random_actions(space, 300, CPU, torch.Generator().manual_seed(0))
    assert actions.shape == (300, *space.shape)
    for action in actions.numpy():
        assert space.contains(np.asarray(action, space.dtype)), action
    assert len(actions.flatten(1).unique(dim=0) if actions.dim() > 1 else actions.unique()) > 1
    again = random_actions(space, 300, CPU, torch.Generator().manual_seed(0))
    assert torch.equal(again, actions)


def test_random_actions_are_uniform() -> None:
    rng = torch.Generator().manual_seed(0)
    for space, parts in ((spaces.Discrete(3, start=-2), [3]), (spaces.MultiDiscrete([2, 7], start=[-3, 4]), [2, 7])):
        actions = random_actions(space, 7000, CPU, rng).view(7000, -1) - torch.as_tensor(np.asarray(space.start))
        for column, size in zip(actions.T, parts, strict=True):
            counts = torch.bincount(column, minlength=size)
            assert len(counts) == size
            assert ((counts / 7000 - 1 / size).abs() < 4 * (1 / size / 7000) ** 0.5).all()
    coins = random_actions(spaces.MultiBinary(4), 7000, CPU, rng).double().mean(0)
    assert ((coins - 0.5).abs() < 4 * 0.5 / 7000**0.5).all()
    box = random_actions(spaces.Box(-1.0, 3.0, (2,)), 7000, CPU, rng)
    assert ((box.mean(0) - 1.0).abs() < 4 * 4 / (12 * 7000) ** 0.5).all()
    assert (box.min() < -0.99) & (box.max() > 2.99)


def test_there_are_no_random_actions_for_a_dict() -> None:
    with pytest.raises(ConfigError):
        random_actions(OTHERS[-1], 2, CPU, None)
