"""Training metrics: kept on the device, and fetched in one transfer at each log point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rltrain.agent import Metrics
from rltrain.devices import statistics_dtype
from rltrain.distributed.ranks import ALONE, Ranks
from rltrain.vec import SUCCESS, VecStep

STEPS_AT_ONCE, ROWS_AT_ONCE = 32, 2**16  # about so many at most are noted before they are taken into the ring


class EpisodeStats:
    """Mean return, length and success of the last finished episodes, in a ring on the device.

    Steps are noted as they come; :meth:`merge` ends a rollout. Short rollouts are taken into the ring several at once.
    Episodes count in the order they ended, those of one step in the order of the rows.

    Args:
        window: Number of episodes that the means are taken over.
        horizon: Steps between two merges.
        num_envs: N.
        device: Device of the environments.
    """

    def __init__(self, window: int, horizon: int, num_envs: int, device: torch.device) -> None:
        self.window = window
        self.horizon = horizon
        self._first, self._step = 0, 0  # where the current rollout starts, and its next step
        self._last = slice(0, 0)  # the steps of the last rollout
        shape = (horizon * max(1, min(STEPS_AT_ONCE, ROWS_AT_ONCE // num_envs) // horizon), num_envs)
        self._ended = torch.zeros(shape, dtype=torch.bool, device=device)
        self._values = torch.full((3, *shape), torch.nan, device=device)  # return, length, success of each step
        self._rows = self._ended.unbind(), *(value.unbind() for value in self._values)
        # One slot more than the window, for values that are not kept.
        self._ring = torch.full((3, window + 1), torch.nan, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)  # episodes finished so far

    def note(self, step: VecStep) -> None:
        """Copies the fields of a step that the statistics need."""
        ended, returns, lengths, successes = (rows[self._step] for rows in self._rows)
        torch.logical_or(step.terminated, step.truncated, out=ended)
        returns.copy_(step.episode_return)
        lengths.copy_(step.episode_length)
        if SUCCESS in step.info:
            successes.copy_(step.info[SUCCESS])
        self._step += 1

    def merge(self) -> None:
        """Ends a rollout, without waiting for the device."""
        self._last = slice(self._first, self._step)
        self._first = self._step
        if self._step + self.horizon > len(self._ended):
            self._take_in()

    def _take_in(self) -> None:
        """Moves the episodes of the rollouts that have ended into the ring."""
        if not self._first or self._step > self._first:  # none has ended since, or one is under way
            return
        ended = self._ended[: self._first].flatten()
        number = ended.cumsum(0)  # 1 for the first episode that ended
        total = number[-1]
        recent = ended & (number > total - self.window)
        slot = torch.where(recent, (self._count + number - 1) % self.window, self.window)
        values = self._values[:, : self._first].flatten(1)
        self._ring.scatter_(1, slot.expand_as(values), values)
        self._count += total
        self._first, self._step = 0, 0

    def merge_from(self, other: EpisodeStats, rows: slice) -> None:
        """Moves episodes that ``other`` noted for the environments ``rows`` into this ring."""
        own = slice(other._first, other._step)
        self._ended, self._values = other._ended[own, rows], other._values[:, own, rows]
        self._first = self._step = other._step - other._first
        self._last = slice(None)
        self._take_in()

    def forget(self) -> None:
        """Drops what was noted since the last merge."""
        self._step = self._first

    @property
    def returns(self) -> Tensor:
        """(T, N) running return of each episode after each step noted before the last merge, not copied."""
        return self._values[0, self._last]

    def last_rollout(self) -> tuple[Tensor, Tensor]:
        """Copies of what was noted before the last merge: (T, N) bool ends, (3, T, N) return, length, success."""
        return self._ended[self._last].clone(), self._values[:, self._last].clone()

    def means(self, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """Means over the window by TensorBoard tag, 0-d on the device; NaN where there is nothing yet.

        The episodes of all ranks are counted.
        """
        self._take_in()
        ring = self._ring[:, : self.window]
        sums, known = ring.nansum(1), (~ring.isnan()).sum(1)
        episodes = self._count
        if ranks.world_size > 1:
            both = ranks.mean(torch.cat((sums.to(statistics_dtype(ring.device)), known, episodes.unsqueeze(0))))
            sums, known, episodes = both[:3], both[3:6], (both[6] * ranks.world_size).round()
        means = sums / known
        return {
            "rollout/ep_rew_mean": means[0],
            "rollout/ep_len_mean": means[1],
            "rollout/success_rate": means[2],
            "rollout/episodes": episodes,
        }

    def state_dict(self) -> dict[str, Any]:
        """The ring and the count."""
        self._take_in()
        # Without the spare slot, in which the last of several writes is kept: a GPU fixes no order among them.
        return {"ring": self._ring[:, : self.window].contiguous(), "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        self._ring[:, : self.window] = state["ring"][:, : self.window]  # older checkpoints hold the spare slot too
        self._count.copy_(state["count"])


class MetricMeans:
    """An agent's metrics since the last log point: means of tensors, summed on the device, and the latest numbers."""

    def __init__(self) -> None:
        self._tags: tuple[str, ...] = ()
        self._sum: Tensor | None = None
        self._updates = 0
        self._numbers: dict[str, float] = {}

    def add(self, metrics: Metrics) -> None:
        """Adds the metrics of one update. Once there are tensors, their tags must stay the same."""
        self._numbers.update({tag: float(value) for tag, value in metrics.items() if not isinstance(value, Tensor)})
        tensors = {tag: value for tag, value in metrics.items() if isinstance(value, Tensor)}
        if tensors:
            values = torch.stack([value.to(torch.float32) for value in tensors.values()])
            self._tags = tuple(tensors)
            self._sum = values if self._sum is None else self._sum.to(values.device) + values
            self._updates += 1

    def take(self, ranks: Ranks = ALONE) -> Metrics:
        """Returns the means over all ranks, and the numbers; then starts over."""
        means: Metrics = {**self._numbers}
        if self._sum is not None:
            means |= zip(self._tags, ranks.mean(self._sum / self._updates).unbind(), strict=True)
        self._sum, self._updates, self._numbers = None, 0, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """The sums and numbers since the last log point."""
        state = {"tags": list(self._tags), "updates": self._updates, "numbers": self._numbers}
        return state if self._sum is None else {**state, "sum": self._sum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave.

        Raises:
            ValueError: The sums are not of these tags, or a number is none.
        """
        tags, updates, total = tuple(map(str, state["tags"])), int(state["updates"]), state.get("sum")
        if total is not None and (updates < 1 or total.shape != (len(tags),)):
            raise ValueError(f"the sums of {len(tags)} metrics over {updates} updates are of shape {total.shape}")
        self._numbers = {tag: float(value) for tag, value in state["numbers"].items()}
        self._tags, self._updates, self._sum = tags, updates, total


class InfoMeans:
    """Means of numbers in the info of the environments, over the steps since the last log point; summed on the device.

    Args:
        names: Their names in ``info``.
        device: Device of the environments.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = list(names)
        self._sums = torch.zeros(2, len(names), dtype=statistics_dtype(device), device=device)  # of numbers; how many
        self._ever = torch.zeros(len(names), dtype=torch.bool, device=device)  # whether there was one

    def note(self, info: Mapping[str, Tensor], rows: slice = slice(None)) -> None:
        """Adds a step of the environments ``rows``."""
        for i, name in enumerate(self.names):
            if name in info:
                values = info[name][rows].to(self._sums.dtype)
                self._sums[0, i] += values.nansum()
                self._sums[1, i] += (~values.isnan()).sum()

    def take(self, ranks: Ranks = ALONE) -> Metrics:
        """Returns the means over all ranks by tag, NaN where there was nothing, and starts over."""
        if not self.names:
            return {}
        sums = ranks.mean(self._sums)
        self._ever |= self._sums[1] > 0
        means = (sums[0] / sums[1]).to(torch.float32)
        self._sums = torch.zeros_like(self._sums)
        return {f"info/{name}": mean for name, mean in zip(self.names, means.unbind(), strict=True)}

    def never_seen(self) -> list[str]:
        """The names that no environment gave a number for until the last log point; waits for the device."""
        return [name for name, seen in zip(self.names, self._ever.tolist(), strict=True) if not seen]

    def state_dict(self) -> dict[str, Any]:
        """The sums since the last log point."""
        return {"sums": self._sums, "ever": self._ever} if self.names else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave, if the names are still as many."""
        if state and state["sums"].shape == self._sums.shape:
            self._sums, self._ever = state["sums"].to(self._sums), state["ever"].to(self._ever)


class OnItsWay:
    """A tensor on its way to the host.

    On CUDA the host waits for it only when the values are asked for; on other accelerators it starts only then.

    Args:
        tensor: The tensor.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._arrived: torch.cuda.Event | None = None
        if tensor.is_cuda:
            pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor = pinned.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def on_host(self) -> Tensor:
        """The tensor, on the host."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensor.cpu()

    def tolist(self) -> list[float]:
        """Its numbers."""
        return self.on_host().tolist()


class Fetch:
    """Metrics on their way to the host, in one transfer.

    Args:
        metrics: By tag; 0-d tensors are fetched.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        tensors = [value.to(statistics_dtype(value.device)) for value in metrics.values() if isinstance(value, Tensor)]
        self._table = OnItsWay(torch.stack(tensors) if tensors else torch.empty(0))

    def values(self) -> dict[str, float]:
        """The values by tag; those that are NaN for lack of data are left out."""
        fetched = iter(self._table.tolist())
        values = {
            tag: next(fetched) if isinstance(value, Tensor) else float(value) for tag, value in self._metrics.items()
        }
        return {tag: value for tag, value in values.items() if value == value or tag.startswith("train/")}


def fetch(metrics: Metrics) -> dict[str, float]:
    """Brings 0-d tensors to the host in one transfer; those that are NaN for lack of data are left out."""
    return Fetch(metrics).values()
