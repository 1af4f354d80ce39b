"""Recurrent layers, which give a network memory, and minibatches of whole sequences to train them on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rltrain.agent import State
from rltrain.agents.parts.networks import init_orthogonal
from rltrain.agents.parts.settings import MemoryKwargs
from rltrain.env import Observation
from rltrain.tree import tree_map, tree_where


class Sequences(NamedTuple):
    """T successive observations of each of N environments, possibly of several episodes."""

    obs: Observation  # (T * N, *O), step by step
    state: State  # of N rows, before the first step
    start: Tensor  # (T, N) bool, whether an episode begins with this observation, and the state is reset


class Memory(nn.Module, ABC):
    """A recurrent layer.

    Weights are orthogonal at first, and biases zero.

    Args:
        inputs: Features of an observation.
        size: H, the numbers that are remembered.
    """

    gates: int  # the outputs of ``input`` for each of the H numbers

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.input = nn.Linear(inputs, self.gates * size)
        init_orthogonal(self.input, 1.0)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Features (N, inputs) and the state before them to outputs (N, H) and the state after them."""
        state = self.step(self.project(x), state)
        return self.output(state), state

    def sequence(self, x: Tensor, state: State, start: Tensor) -> Tensor:
        """What :meth:`forward` gives for T steps one after another. When learning, the state is reset only here.

        Args:
            x: Features (T, N, inputs).
            state: The state before the first step.
            start: (T, N) bool, where the state is reset before a step.

        Returns:
            Outputs (T, N, H).
        """
        initial, outputs = self.initial_state(x.shape[1]), []
        for projected, reset in zip(self.project(x).unbind(), start.unbind(), strict=True):
            state = self.step(projected, tree_where(reset, initial, state))
            outputs.append(self.output(state))
        return torch.stack(outputs)

    def outputs(self, features: Tensor, sequences: Sequences) -> Tensor:
        """Outputs (T * N, H) for the features (T * N, inputs) of sequences."""
        steps = features.unflatten(0, sequences.start.shape)
        return self.sequence(steps, sequences.state, sequences.start).flatten(0, 1)

    def initial_state(self, n: int) -> State:
        """The state of ``n`` rows at the start of an episode: zeros."""
        return self.input.weight.new_zeros(n, self.size)

    def output(self, state: State) -> Tensor:
        """The outputs (N, H) that come with a state."""
        return state

    def project(self, x: Tensor) -> Tensor:
        """The part of a step that needs no state, and is therefore computed for all steps at once."""
        return self.input(x).to(self.input.weight.dtype)  # also where the layer multiplies in bfloat16

    @abstractmethod
    def step(self, projected: Tensor, state: State) -> State:
        """The state after a step."""


class GRU(Memory):
    """Gated recurrent unit, Cho et al. (2014), arXiv:1406.1078, in the form of ``torch.nn.GRUCell``."""

    gates = 3

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__(inputs, size)
        self.recurrent = nn.Linear(size, 3 * size)
        init_orthogonal(self.recurrent, 1.0)

    def step(self, projected: Tensor, state: Tensor) -> Tensor:
        gates, candidate = projected.split((2 * self.size, self.size), -1)
        by_gates, by_candidate = self.recurrent(state).split((2 * self.size, self.size), -1)
        reset, update = (gates + by_gates).sigmoid().chunk(2, -1)
        new = torch.tanh(candidate + reset * by_candidate)
        return new + update * (state - new)


class LSTMState(NamedTuple):
    """The two parts of the state of an LSTM."""

    hidden: Tensor  # (N, H)
    cell: Tensor  # (N, H)


class LSTM(Memory):
    """Long short-term memory, Hochreiter and Schmidhuber (1997), in the form of ``torch.nn.LSTMCell``.

    It has one bias for each gate instead of two, whose sum is all that counts.
    """

    gates = 4

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__(inputs, size)
        self.recurrent = nn.Linear(size, 4 * size, bias=False)
        init_orthogonal(self.recurrent, 1.0)

    def initial_state(self, n: int) -> LSTMState:
        """The state of ``n`` rows at the start of an episode: zeros."""
        return LSTMState(super().initial_state(n), super().initial_state(n))

    def output(self, state: LSTMState) -> Tensor:
        return state.hidden

    def step(self, projected: Tensor, state: LSTMState) -> LSTMState:
        gates = projected + self.recurrent(state.hidden)
        admit, keep, new, show = gates.chunk(4, -1)
        cell = keep.sigmoid() * state.cell + admit.sigmoid() * torch.tanh(new)
        return LSTMState(show.sigmoid() * torch.tanh(cell), cell)


class MinGRU(Memory):
    """Minimal gated recurrent unit, Feng et al. (2024), arXiv:2410.01201, appendix B.3: h' = (1 - z) h + z g(c).

    Gate and candidate do not depend on the state, so all steps of a sequence are computed in log2(T) operations on all
    of it, instead of T operations one after another. The paper gets there by cumulated products, by which it divides,
    and therefore computes with logarithms. Here steps are joined in pairs, then pairs of pairs, and so on (Hillis and
    Steele 1986). Nothing is divided, so that it needs no logarithms, is as accurate as step by step, and takes a gate
    of exactly 0, which is what a reset is.
    """

    gates = 2

    def step(self, projected: Tensor, state: Tensor) -> Tensor:
        keep, new = self._keep_and_new(projected)
        return keep * state + new

    def sequence(self, x: Tensor, state: Tensor, start: Tensor) -> Tensor:
        """See :meth:`Memory.sequence`."""
        keep, new = self._keep_and_new(self.project(x))
        keep = keep.masked_fill(start.unsqueeze(-1), 0.0)  # the initial state is 0
        new = torch.cat([(keep[:1] * state + new[:1]), new[1:]])
        return linear_recurrence(keep, new)

    def _keep_and_new(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """The factor of the old state, and what is added to it."""
        gate, candidate = projected.chunk(2, -1)
        positive = torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())  # g of the paper
        return torch.sigmoid(-gate), gate.sigmoid() * positive


def linear_recurrence(factor: Tensor, added: Tensor) -> Tensor:
    """h[t] = factor[t] h[t - 1] + added[t], with h[-1] = 0, for tensors (T, ...)."""
    distance = 1
    while distance < len(added):
        # Each step stands for the last ``distance`` of them, and is joined with as many before these.
        added = torch.cat([added[:distance], factor[distance:] * added[:-distance] + added[distance:]])
        factor = torch.cat([factor[:distance], factor[distance:] * factor[:-distance]])
        distance *= 2
    return added


def make_memory(config: MemoryKwargs, inputs: int) -> Memory | None:
    """The layer that a configuration asks for; None for no memory."""
    return None if config.memory is None else MEMORIES[config.memory](inputs, config.memory_size)


MEMORIES: Mapping[str, type[Memory]] = {"gru": GRU, "mingru": MinGRU, "lstm": LSTM}


def envs_in_minibatch(batch_size: int, horizon: int) -> int:
    """The environments in a minibatch of at least ``batch_size`` transitions, ``horizon`` of each environment."""
    return -(-batch_size // horizon)


def sequence_minibatches(
    batch: Mapping[str, Any], state: State, done: Tensor, envs: int, generator: torch.Generator | None
) -> Iterator[dict[str, Any]]:
    """Minibatches of some of N environments each, in random order, with all T steps of them.

    Args:
        batch: Trees of (T * N, ...), one of them ``obs``.
        state: The state of N rows before the first step.
        done: (T, N) bool, where an episode ended with a step.
        envs: Environments in a minibatch; the last one may have fewer.
        generator: Source of the order.

    Yields:
        The batch of these environments, with :class:`Sequences` as ``obs``.
    """
    start = torch.cat([torch.zeros_like(done[:1]), done[:-1]])
    order = torch.randperm(done.shape[1], generator=generator, device=done.device)
    for some in order.split(envs):
        rows = {
            name: tree_map(lambda x, some=some: x.unflatten(0, done.shape).index_select(1, some).flatten(0, 1), tree)
            for name, tree in batch.items()
        }
        before = tree_map(lambda x, some=some: x.index_select(0, some), state)
        yield {**rows, "obs": Sequences(rows["obs"], before, start.index_select(1, some))}
