"""A policy as one module from the environment's own observations to its own actions, and the graph of it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.adapters.spaces import WIDER
from rltrain.errors import ConfigError
from rltrain.export.signature import ACTION, OBS, STATE, Array, Signature
from rltrain.runs.policy import Policy
from rltrain.tree import leaves, names, tree_map
from rltrain.wrappers import rescaled

ROWS = 3
"""Rows of the example that a graph is traced with. They stand for any number; 0 and 1 would be taken for constants."""
NARROW = {"int64": "int32", "int16": "int32", "int8": "int32", "float64": "float32"}
"""Types that LiteRT has no operators for, and those that hold their values, nearly in the case of float64."""


class WholePolicy(nn.Module):
    """The normaliser, the networks, the mask, the memory, and the conversion to the environment's actions, on the CPU.

    It takes and gives what :meth:`rltrain.runs.policy.Policy.predict` does, in tensors alone, and takes the most likely
    action. Its inputs and outputs are flat, in the order of :attr:`signature`.

    Args:
        policy: The policy, on the CPU. Its modules are used, not copied; they no longer take gradients.
        narrow: Whether inputs and outputs have integers and floats of 32 bits alone.
    """

    def __init__(self, policy: Policy, *, narrow: bool = False) -> None:
        super().__init__()
        self.actor = policy.agent.actor.traceable()
        self.translation = policy.translation
        self.eval().requires_grad_(False)
        for parameter in self.parameters():  # views of one flat tensor, which torch.export warns of when it saves
            parameter.data = parameter.data.clone()
        self.initial = self.actor.initial_state(1)
        space = self.translation.action_space
        shrink = NARROW if narrow else {}
        self.dtype, self.bounds = _torch_type(space), None
        self.dtype = getattr(torch, shrink.get(_name(self.dtype), _name(self.dtype)))
        if isinstance(space, spaces.Box):
            within = np.dtype(np.float32) if narrow else np.result_type(np.float32, space.dtype)
            self.bounds = tuple(torch.as_tensor(side.astype(within)) for side in (space.low, space.high))
        self.signature = Signature(
            tuple(
                Array(_under(OBS, leaf.name), leaf.shape, shrink.get(leaf.dtype.name, leaf.dtype.name))
                for leaf in self.translation.leaves
            ),
            tuple(
                Array(_under(STATE, name), tuple(part.shape[1:]), _name(part.dtype))
                for name, part in zip(names(self.initial), leaves(self.initial), strict=True)
            ),
            Array(ACTION, tuple(space.shape or ()), _name(self.dtype)),
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The action (N, *A) and the parts of the next state, for the parts of observations and state."""
        translation = self.translation
        parts = [part.reshape(part.shape[0], *shape) for part, shape in zip(inputs, translation.shapes, strict=False)]
        named = dict(zip((leaf.name for leaf in translation.leaves), parts, strict=True))
        obs = named if translation.in_dict else parts[0]
        state = start = None
        if self.signature.state:
            *flat, start = inputs[len(parts) :]
            rest = iter(flat)
            state = tree_map(lambda _: next(rest), self.initial)
        action, state = self.actor(obs, state, start)
        return (self._to_env(action), *leaves(state))

    def _to_env(self, action: Tensor) -> Tensor:
        """What :meth:`rltrain.runs.translation.Translation.to_env` does, in tensors."""
        space = self.translation.action_space
        if self.translation.bounds is not None:
            action = rescaled(action, *self.translation.bounds)
        if self.bounds is not None:
            assert isinstance(space, spaces.Box)
            low, high = self.bounds
            action = action.to(low.dtype)
            action = (action if space.dtype.kind == "f" else action.round()).clamp(low, high)
        return action.to(self.dtype).reshape(action.shape[0], *(space.shape or ()))

    def examples(self, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Random inputs by name: observations of their spaces, states; a third of the rows start an episode."""
        rng = np.random.default_rng(seed)
        given = {}
        for array, leaf in zip(self.signature.observations, self.translation.leaves, strict=True):
            leaf.space.seed(int(rng.integers(2**31)))
            samples = np.asarray([leaf.space.sample() for _ in range(rows)], array.dtype)
            given[array.name] = samples.reshape(rows, *leaf.shape)
        for array in self.signature.inputs[len(given) :]:
            numbers = rng.standard_normal((rows, *array.shape))
            given[array.name] = (numbers < -0.43) if array.dtype == "bool" else numbers.astype(array.dtype)
        return given


def trace(module: WholePolicy) -> torch.export.ExportedProgram:
    """The graph of a policy, for any number of rows.

    Raises:
        ConfigError: torch cannot trace it: a network's path through its code depends on the numbers.
    """
    example = tuple(torch.from_numpy(each) for each in module.examples(ROWS).values())
    rows = torch.export.Dim("rows", min=1, max=2**20)
    try:
        with quietly():
            return torch.export.export(module, example, dynamic_shapes=(tuple({0: rows} for _ in example),))
    except Exception as error:  # of many kinds: of torch._dynamo, of sympy, of the network itself
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"torch.export cannot trace this policy: {why}",
            "A network of your own must take the same path through its code whatever the numbers and the batch size.",
        ) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps warnings of exporters, which are about themselves, from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _under(head: str, name: str) -> str:
    return f"{head}.{name}" if name else head


def _torch_type(space: spaces.Space) -> torch.dtype:
    """The type of an action: that of its space, or a wider one where torch has no such integers."""
    name = np.dtype(space.dtype or np.int64).name
    kind: Any = getattr(torch, WIDER.get(name, name))
    assert isinstance(kind, torch.dtype)
    return kind


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
