"""Samples of actions, advantages, parameters and gradients, fetched in one transfer, for histograms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rltrain.agent import Agent
from rltrain.training.metrics import OnItsWay

MOST = 4_096
"""Numbers of a tensor that are fetched; of a larger one every k-th."""
COLUMNS = 8
"""Dimensions of an action that have a histogram each; those of a larger action share one."""


class Distributions:
    """Numbers of an agent on their way to the host; taking them does not wait for the device.

    Args:
        agent: The agent, after it has learned.
    """

    def __init__(self, agent: Agent) -> None:
        with torch.no_grad():
            samples = {tag: sample(values) for tag, values in named(agent) if values.numel()}
            self._sizes = {tag: values.numel() for tag, values in samples.items()}
            self._fetched = OnItsWay(torch.cat(list(samples.values()))) if samples else None

    def values(self) -> Iterator[tuple[str, NDArray[np.floating[Any]]]]:
        """The numbers by tag."""
        if self._fetched is not None:
            parts = self._fetched.on_host().split(list(self._sizes.values()))
            yield from ((tag, part.numpy()) for tag, part in zip(self._sizes, parts, strict=True))


def named(agent: Agent) -> Iterator[tuple[str, Tensor]]:
    """What is shown of an agent, by tag."""
    for tag, values in agent.distributions().items():
        columns = values.flatten(1).unbind(1) if values.dim() > 1 else ()
        if 1 < len(columns) <= COLUMNS:
            yield from ((f"{tag}/{i}", column) for i, column in enumerate(columns))
        else:
            yield tag, values
    for name, parameter in agent.named_parameters():
        if parameter.requires_grad:
            yield f"parameters/{name}", parameter.detach()
            if parameter.grad is not None:
                yield f"gradients/{name}", parameter.grad


def sample(values: Tensor) -> Tensor:
    """At most :data:`MOST` of the numbers of a tensor, evenly spread over it, as float32."""
    flat = values.reshape(-1)
    return flat[:: -(-flat.numel() // MOST)].to(torch.float32)
