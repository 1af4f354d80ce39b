"""Watches a run for numbers that are not finite: after every update, by one small transfer that nobody waits for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rltrain.agent import Agent, Metrics, Received
from rltrain.agents.parts.optim import MOMENTS, FlatAdam
from rltrain.devices import answers_late
from rltrain.errors import RunError
from rltrain.normalize import RunningMoments
from rltrain.spaces import no_choice
from rltrain.training.health import LIMIT, diverged, first_broken
from rltrain.training.metrics import OnItsWay
from rltrain.tree import leaves, names, tree_map

FIRST = {"train/loss": "The loss", "train/grad_norm": "The gradient"}
"""The metrics of an update that are looked at before others, and what they are called."""
FINAL = "The final_obs"
NO_CHOICE = "The action mask"


class Span(NamedTuple):
    """The environment steps of an update.

    Attributes:
        end: Environment steps so far, over all environments and ranks.
        each: Environment steps that one step of every environment counts for.
        saved: The step of the last checkpoint, if there is one.
        rank: The rank whose environments these are; None where there is one alone.
    """

    end: int
    each: int
    saved: int | None = None
    rank: int | None = None


class Given(NamedTuple):
    """What the environments gave for an update.

    Attributes:
        returns: (T, N) running return of each episode: not finite from the first such reward on.
        received: Their observations, as far as the agent keeps them.
        missing: (T, N) bool, true where a mask allowed no action though one had to be taken; None without masks.
    """

    returns: Tensor
    received: Received | None = None
    missing: Tensor | None = None

    def parts(self) -> Iterator[tuple[str, Tensor]]:
        """What is watched of it, by name; nothing of bytes and categories, which cannot be NaN."""
        if self.received is not None:
            for name, leaf in numbers(self.received.obs):
                yield f"The observation{_quoted(name)}", leaf
            for name, leaf in numbers(self.received.final_obs):
                yield f"{FINAL}{_quoted(name)}", leaf
        if self.missing is not None:
            yield NO_CHOICE, torch.zeros_like(self.missing, dtype=torch.float32).masked_fill(self.missing, math.inf)
        yield "The reward", self.returns

    def totals(self) -> Iterator[tuple[str, Tensor]]:
        """The sum of each part, 0-d; of ``final_obs`` only where the episode goes on: nothing reads the others."""
        for name, leaf in self.parts():
            yield name, total(self._read(name, _over_steps(leaf)) if name.startswith(FINAL) else leaf)

    def _read(self, name: str, values: Tensor) -> Tensor:
        """Numbers (T, N, ...) of a part, 0 where nothing reads them."""
        if not name.startswith(FINAL) or self.received is None or self.received.terminated is None:
            return values
        terminated = self.received.terminated
        return values.masked_fill(terminated.view(*terminated.shape, *(1,) * (values.dim() - 2)), 0.0)

    def first(self) -> tuple[int, str, float, int] | None:
        """The earliest bad number: its step, counted back from 0, what it is, its value and its row."""
        found = [each for name, values in self.parts() if (each := self._first(name, values)) is not None]
        return min(found, key=lambda each: each[0], default=None)

    def _first(self, name: str, values: Tensor) -> tuple[int, str, float, int] | None:
        values = self._read(name, values)
        values = values.detach().flatten(2).cpu() if values.dim() > 2 else values.detach().unsqueeze(2).cpu()
        bad = ~(values.abs() < LIMIT)
        where = bad.any(2)
        if not bool(where.any()):
            return None
        size, width = where.shape
        steps = torch.arange(1 - size, 1).unsqueeze(1).expand(size, width)
        final = torch.zeros_like(where)
        if name == NO_CHOICE or name.startswith("The observation"):  # was given by the step before
            steps = steps - 1
            if name != NO_CHOICE and self.received is not None and self.received.steps is not None:
                steps, final = (x.cpu() for x in self.received.steps())
        t, row = divmod(int(steps.masked_fill(~where, 1).argmin()), width)
        if final[t, row]:
            name = name.replace("observation", "final_obs", 1)
        return int(steps[t, row]), name, float(values[t, row][bad[t, row]][0]), row

    def copied(self) -> Given:
        """The same, when the memory it is in will be written again."""
        received = self.received
        if received is not None:
            steps = None if received.steps is None else received.steps()
            obs, final_obs, terminated = (tree_map(torch.clone, part) for part in received[:3])
            received = Received(obs, final_obs, terminated, None if steps is None else lambda: steps)
        missing = None if self.missing is None else self.missing.clone()
        return Given(self.returns.clone(), received, missing)


class Watch:
    """Looks at rewards, observations, loss, gradient, parameters, optimizers and statistics after every update.

    An update costs a sum of each tensor, and on an accelerator one transfer. On a CPU the sums are judged at once, on
    an accelerator with the next update, or before a checkpoint: nothing is saved that was not judged.

    Args:
        agent: The agent that learns. Of one that is no :class:`~rltrain.agent.Agent` only the metrics are seen.
        device: The device of the environments.
    """

    def __init__(self, agent: Agent, device: torch.device) -> None:
        self.agent = agent
        self.late = answers_late(device)
        self._waiting: Look | None = None
        modules = agent.named_modules() if isinstance(agent, Agent) else ()
        self._statistics = [
            (f"{name}.{kind}", getattr(module, kind))
            for name, module in modules
            if isinstance(module, RunningMoments)
            for kind in ("mean", "var")
        ]

    def update(self, metrics: Metrics, given: Given | None, span: Span) -> None:
        """Looks at an update.

        Args:
            metrics: What the agent returned.
            given: What the environments gave.
            span: Its environment steps.

        Raises:
            RunError: A number is not finite; names the first.
        """
        look = Look(self.agent, [each for each in metrics.items() if is_watched(each[0])], self.learned(), given, span)
        if not self.late:
            look.judge()
            return
        look.send()
        look.given = None if given is None else given.copied()
        self.settle()
        self._waiting = look

    def settle(self) -> None:
        """Judges what was not judged yet; waits for the device.

        Raises:
            RunError: A number is not finite; names the first.
        """
        look, self._waiting = self._waiting, None
        if look is not None:
            look.judge()

    def learned(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors that learning changes, as few as possible.

        First moments are left out: a number in one that is not finite, or large, makes such a parameter in the next
        step, unless the second moment hides it, which is looked at. Before anything is saved all are.
        """
        for name, optimizer in vars(self.agent).items():
            if isinstance(optimizer, FlatAdam):
                yield name, optimizer.flat.detach()
                yield f"{name} {MOMENTS[1]}", optimizer.moments[1]
        yield from self._statistics


class Look:
    """The sums of an update's tensors, perhaps on their way to the host, and what they were taken of.

    Args:
        agent: The agent that learns.
        metrics: What it returned, as far as it is watched.
        learned: The tensors that it has changed, by name.
        given: What the environments gave.
        span: The environment steps of the update.
    """

    def __init__(
        self,
        agent: Agent,
        metrics: Iterable[tuple[str, Tensor | float]],
        learned: Iterable[tuple[str, Tensor]],
        given: Given | None,
        span: Span,
    ) -> None:
        self.agent, self.given, self.span = agent, given, span
        self.fetched: OnItsWay | None = None
        self.parts: list[tuple[str, Tensor | float]] = [*given.totals()] if given is not None else []
        self.parts += metrics
        self.parts += [(name, total(x)) for name, x in learned]

    def send(self) -> None:
        """Sends the sums to the host in one transfer, which nobody waits for."""
        sums = [x.to(torch.float32) for _, x in self.parts if isinstance(x, Tensor)]
        self.fetched = OnItsWay(torch.stack(sums)) if sums else None

    def judge(self) -> None:
        """Raises :class:`~rltrain.errors.RunError` if a number is not finite, and names the first."""
        if self.fetched is None:  # a CPU's numbers are here
            values = [value.item() if isinstance(value, Tensor) else value for _, value in self.parts]
        else:
            fetched = iter(self.fetched.tolist())
            values = [next(fetched) if isinstance(value, Tensor) else value for _, value in self.parts]
        if all(-LIMIT < value < LIMIT for value in values):
            return
        bad = {name: value for (name, _), value in zip(self.parts, values, strict=True) if not abs(value) < LIMIT}
        first = self.given.first() if self.given is not None else None
        if first is None:
            raise self.of_learning(bad)
        raise _of_environment(*first, self.span)

    def of_learning(self, bad: dict[str, float]) -> RunError:
        """The error for a number that learning made."""
        name = min(bad, key=_order)
        if name in FIRST:
            what = FIRST[name]
        elif "/" in name:  # of an agent with several losses
            kind = FIRST["train/grad_norm" if name.endswith("grad_norm") else "train/loss"]
            what = f"{kind} '{name.removeprefix('train/')}'"
        elif " " in name:
            what = "'{1}' of the {0}".format(*name.split(" ", 1))
        elif (moment := first_broken(self._moments())) is not None:
            what = f"'{MOMENTS[0]}' of the {moment}"
        else:
            what = f"'{first_broken(self.agent.state_dict()) or name}' of the policy"
        return diverged(what, self.span.end, bad[name], saved=self.span.saved)

    def _moments(self) -> dict[str, Tensor]:
        """The first moments of the optimizers, by the name of each."""
        return {name: each.moments[0] for name, each in vars(self.agent).items() if isinstance(each, FlatAdam)}


def check_current(obs: Any, span: Span) -> None:
    """Checks the observations that the next action will be chosen by, before they are saved; waits for the device.

    No update has seen them yet: the first observation of an episode may come with the last step of one.

    Args:
        obs: Observations (N, ...).
        span: The environment steps until now.

    Raises:
        RunError: A number is not finite; names the first.
    """
    for name, leaf in numbers(obs):
        values = leaf.detach().reshape(leaf.shape[0], -1)
        bad = ~(values.abs() < LIMIT)
        if bool(bad.any()):
            row = int(bad.any(1).int().argmax())
            raise _of_environment(0, f"The observation{_quoted(name)}", float(values[row][bad[row]][0]), row, span)


def _of_environment(back: int, what: str, value: float, row: int, span: Span) -> RunError:
    """The error for a number that an environment gave ``back`` steps (0, -1, ...) before the end of an update."""
    rank = "" if span.rank is None else f" of rank {span.rank}"
    step = max(0, span.end + back * span.each)
    if what == NO_CHOICE:
        return no_choice(f"Environment {row}{rank}", f" at step {step:,}")
    return diverged(
        what,
        span.end,
        value,
        where=f" in environment {row}{rank} at step {step:,}",
        fix="Mend the environment: 'rltrain check' looks for such numbers.",
        saved=span.saved,
    )


def _order(name: str) -> int:
    """The order in which bad numbers arise in an update: the loss, the gradient, the optimizer, what it changes."""
    if name.startswith("train/"):
        return [*FIRST].index(name) if name in FIRST else len(FIRST)
    return 3 if " " in name else 4


@cache
def is_watched(tag: str) -> bool:
    """Whether a metric must be finite: losses and the norm of the gradient, but not, say, an explained variance."""
    return tag.startswith("train/") and ("loss" in tag or tag.endswith("grad_norm"))


def numbers(tree: Any) -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors of an observation, with their names."""
    for name, leaf in zip(names(tree), leaves(tree), strict=True):
        if leaf.is_floating_point() and leaf.numel():
            yield name, leaf


def total(tensor: Tensor) -> Tensor:
    """The sum of a tensor, 0-d: not finite, or beyond all bounds, where one of its numbers is.

    On a CPU a large one is summed up in a twentieth of the time, or less, that its largest magnitude takes.
    """
    return tensor.sum() if tensor.dtype is torch.float32 else tensor.sum(dtype=_wide(tensor))


def _over_steps(tensor: Tensor) -> Tensor:
    """Numbers (T, N, ...) summed up for each step, (T, N)."""
    return tensor.sum(tuple(range(2, tensor.dim())), dtype=_wide(tensor)) if tensor.dim() > 2 else tensor


def _wide(tensor: Tensor) -> torch.dtype:
    """A type in which the numbers of a tensor can be summed up."""
    return torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype


def _quoted(name: str) -> str:
    return f" '{name}'" if name else ""
