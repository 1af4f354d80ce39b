"""Experience replay on the device: a ring of the last steps of every environment, drawn uniformly or by priority."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Received
from rltrain.devices import statistics_dtype
from rltrain.env import Observation
from rltrain.ring import Ring, SegmentLog
from rltrain.spaces import bytes_of
from rltrain.traced import Traced
from rltrain.tree import leaves, tree_map
from rltrain.vec import VecStep

GOES_ON, TERMINATED, TRUNCATED, NO_STEP = range(4)
BLOCK = 1024  # priorities that are summed up together


class Batch(NamedTuple):
    """Transitions drawn from a replay, each of n steps, or fewer if the episode or the stored data ends before."""

    obs: Observation  # (B, *O) acted upon
    action: Tensor  # (B, *A) as it was stored
    reward: Tensor  # (B,) discounted sum over the steps
    next_obs: Observation  # (B, *O) after the last step
    discount: Tensor  # (B,) factor of the value of next_obs: gamma to the power of the number of steps
    terminated: Tensor  # (B,) bool, next_obs has no value
    weight: Tensor  # (B,) weight in the loss
    place: Tensor  # (B,) int64 in the ring


class Replay:
    """A ring of (rows, N) places. A place holds an observation, the action taken, the reward, and how the step ended.

    The observation after a step is the one in the next row, so each observation is stored once. After a truncation,
    however, the next step starts from another observation, the first of the next episode. The observation after the
    truncated step then takes a place of its own, which is not a step. Therefore every environment has its own head.

    Args:
        capacity: Steps to remember, over all environments.
        num_envs: N.
        device: Device of the ring.
        gamma: Discount factor.
        n_steps: Steps per transition.
    """

    def __init__(self, capacity: int, num_envs: int, device: torch.device, *, gamma: float, n_steps: int = 1) -> None:
        # One row is the head, whose step is not known yet; a truncated step takes two rows.
        self.rows = max(capacity // num_envs, 2) + 1
        self.num_envs = num_envs
        self.places = self.rows * num_envs
        self.device = device
        self.gamma = gamma
        self.n_steps = n_steps
        self.head = torch.arange(num_envs, device=device)  # (N,) place of each environment's head
        self.size = torch.zeros(num_envs, dtype=torch.int64, device=device)  # (N,) rows behind it that are filled
        self._no_step = torch.full((num_envs,), NO_STEP, dtype=torch.uint8, device=device)
        self._ring: dict[str, Any] = {}
        self._has_floats: bool | None = None  # whether observations do, once there are some
        self._log: SegmentLog | None = None  # knows what changed since the last save; None before the first
        self._compiled: list[Traced] = []
        self._back: Tensor | None = None  # how far behind its head a place is, see newest()

    def compile(self) -> None:
        """Compiles what writes and reads the ring, see :class:`~rltrain.traced.Traced`."""
        self._compiled = [Traced(self._put), Traced(self._drawn)]
        self._put, self._drawn = self._compiled  # type: ignore[method-assign, assignment]

    def memory(self, observation_space: spaces.Space, action_space: spaces.Space) -> int:
        """Memory in bytes."""
        return self.places * (bytes_of(observation_space) + bytes_of(action_space) + 5)  # float32 reward, uint8 end

    def begin(self, obs: Observation) -> None:
        """Stores the observations (N, *O) that the next actions respond to."""
        if not self._ring:
            self._allocate(obs)
        if self._log is not None:
            self._log.writing()
        self._write("obs", self.head, obs)

    def add(self, action: Tensor, step: VecStep) -> None:
        """Stores actions (N, *A), in their own type, and their outcomes."""
        if "action" not in self._ring:
            self._ring["action"] = self._zeros(action)
        if self._log is not None:
            self._log.writing()
        self._put(action, step.reward, step.terminated, step.truncated, step.final_obs)
        if self._log is not None:
            self._log.stepped()

    def _put(
        self, action: Tensor, reward: Tensor, terminated: Tensor, truncated: Tensor, final_obs: Observation
    ) -> None:
        """Writes a step behind the heads, and moves them on."""
        following = self._after(self.head)
        self._write("action", self.head, action)
        self._write("reward", self.head, reward)
        self._write("end", self.head, torch.where(truncated, TRUNCATED, terminated.to(torch.uint8)))
        self._write("obs", following, final_obs)
        self._write("end", following, self._no_step)
        moved = self._kept_apart(terminated, truncated) + 1
        self.head.add_(moved, alpha=self.num_envs).remainder_(self.places)
        self.size.add_(moved).clamp_(max=self.rows - 1)

    def _kept_apart(self, terminated: Tensor, truncated: Tensor) -> Tensor:
        """(N,) bool: where ``final_obs`` takes a place of its own, because the next step starts elsewhere."""
        return truncated  # after a termination nothing reads it

    def sample(self, batch_size: int, rng: torch.Generator | None) -> Batch:
        """Draws transitions uniformly. Places that are not steps can be drawn too, and have the weight 0."""
        return self._drawn(torch.randint(2**62, (2, batch_size), device=self.device, generator=rng))

    def _drawn(self, chance: Tensor) -> Batch:
        """The transitions that random numbers (2, B) below 2**62 pick."""
        lane = chance[0] % self.num_envs
        back = 1 + chance[1] % self.size.max()  # the same range for all environments; unfilled places are not steps
        index = (self.head[lane] - back * self.num_envs) % self.places
        no_step = self._ring["end"][index] == NO_STEP
        # Place 0 stands in: it and the next row have observations after the first step; others may not have any yet.
        return self.transitions(index.masked_fill(no_step, 0), (~no_step).to(torch.float32))

    def transitions(self, index: Tensor, weight: Tensor) -> Batch:
        """The transitions that begin at places ``index`` (B,), with their ``weight`` (B,) in the loss."""
        rewards, ends = self._ring["reward"], self._ring["end"]
        reward, end = rewards[index], ends[index]
        discount, last = torch.full_like(reward, self.gamma), index
        for _ in range(self.n_steps - 1):
            following = self._after(last)
            goes_on = (end == GOES_ON) & (ends[following] != NO_STEP)  # not beyond an end, nor beyond the head
            reward = torch.where(goes_on, reward + discount * rewards[following], reward)
            discount = torch.where(goes_on, discount * self.gamma, discount)
            last = torch.where(goes_on, following, last)
            end = ends[last]
        obs, next_obs = (self._read("obs", places) for places in (index, self._after(last)))
        return Batch(obs, self._read("action", index), reward, next_obs, discount, end == TERMINATED, weight, index)

    def recent(self, most: int) -> Batch | None:
        """The last transitions, at most ``most`` (but one of each environment); those that are no steps weigh 0."""
        if "action" not in self._ring:
            return None
        rows = min(max(most // self.num_envs, 1), self.rows - 1)
        back = torch.arange(1, rows + 1, device=self.device).unsqueeze(1) * self.num_envs
        index = ((self.head - back) % self.places).flatten()
        no_step = self._ring["end"][index] == NO_STEP
        return self.transitions(index.masked_fill(no_step, 0), (~no_step).to(torch.float32))

    def largest_reward(self) -> Tensor:
        """The largest magnitude of a stored reward, 0-d."""
        return self._ring["reward"].abs().amax()

    def newest(self, rows: int) -> Received | None:
        """The observations in the last ``rows`` places of every environment, the heads left out.

        None where they are bytes or categories, none of which is ever not finite.

        A step takes two places at most: that of its observation and, if it was truncated, that of the one it led to.
        """
        if self._has_floats is None:
            self._has_floats = any(x.is_floating_point() for x in leaves(self._ring["obs"]))
        if not self._has_floats:
            return None
        rows = min(rows, self.rows - 1)
        if self._back is None or len(self._back) != rows:
            self._back = torch.arange(rows, 0, -1, device=self.device).unsqueeze(1) * self.num_envs
        places = (self.head - self._back) % self.places  # (rows, N)

        def steps() -> tuple[Tensor, Tensor]:
            is_step = self._ring["end"][places] != NO_STEP
            after = is_step.flip(0).cumsum(0).flip(0)  # steps taken from here on
            return -after, ~is_step

        def rows_of(ring: Tensor) -> Tensor:  # bytes and categories are not looked through, so they are not copied
            return ring[places] if ring.is_floating_point() else ring[:0]

        return Received(tree_map(rows_of, self._ring["obs"]), steps=steps)

    def state_dict(self) -> dict[str, Any]:
        """The stored data, without copying it, as a :class:`~rltrain.ring.Ring`, and the positions of the heads."""
        if not self._ring:
            return {}
        log, heads = self._segments(), self.head // self.num_envs
        full = int(self.size.max()) == self.rows - 1
        ring = log.ring(self._ring, heads, used=self.rows if full else int(heads.max()) + 1)
        return {"ring": ring, "rows": self.rows, "head": self.head, "size": self.size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave.

        Raises:
            ValueError: The saved ring has another size or another number of environments, or is none.
        """
        if not state:
            return
        saved, own = (state["rows"], len(state["head"])), (self.rows, self.num_envs)
        if saved != own:
            raise ValueError(
                f"the saved replay has {saved[0]} rows of {saved[1]} environments, not {own[0]} of {own[1]}"
            )
        stored, head = state["ring"], state["head"]
        self._allocate(stored["obs"])
        rows = {len(x) for x in leaves(dict(stored))}
        if len(rows) != 1 or stored["reward"].dim() != 1 or stored["end"].shape != stored["reward"].shape:
            raise ValueError(f"the parts of the saved replay have {sorted(rows)} rows")
        if bool((head < 0).any()) or bool((head >= self.places).any()):
            raise ValueError("the saved replay has heads outside of it")
        if isinstance(stored, Ring) and stored.fresh and stored.rows == self.places and self.device.type == "cpu":
            self._ring = dict(stored)  # a large one is not copied
        else:
            self._ring["action"] = self._zeros(stored["action"])
            tree_map(lambda ring, saved: ring[: len(saved)].copy_(saved), self._ring, stored)
        for compiled in self._compiled:
            compiled.forget()  # the ring is in another place now
        self.head.copy_(state["head"])
        self.size.copy_(state["size"])
        self._log = None
        if isinstance(stored, Ring):
            self._segments().resume(stored, self.head // self.num_envs)

    def _segments(self) -> SegmentLog:
        """The log of what changes, from now on."""
        if self._log is None:
            self._log = SegmentLog(self.rows, sum(x[: self.num_envs].nbytes for x in leaves(self._ring)))
        return self._log

    def _allocate(self, obs: Observation) -> None:
        self._ring = {
            "obs": tree_map(self._zeros, obs),
            "reward": torch.zeros(self.places, device=self.device),
            "end": torch.full((self.places,), NO_STEP, dtype=torch.uint8, device=self.device),
        }

    def _zeros(self, x: Tensor) -> Tensor:
        """Places for rows like those of ``x``; filled with zeros, because unwritten places are saved too."""
        return torch.zeros((self.places, *x.shape[1:]), dtype=x.dtype, device=self.device)

    def _after(self, places: Tensor) -> Tensor:
        """The same environments' places in the next row."""
        return (places + self.num_envs) % self.places

    def _write(self, name: str, places: Tensor, values: Any) -> None:
        tree_map(lambda ring, new: ring.index_copy_(0, places, new), self._ring[name], values)

    def _read(self, name: str, places: Tensor) -> Any:
        return tree_map(lambda ring: ring.index_select(0, places), self._ring[name])


class PrioritizedReplay(Replay):
    """Transitions drawn in proportion to a power of their error: Schaul et al. (2016), arXiv:1511.05952, section 3.3.

    Sums are float64 if the device supports it, and computed anew for every draw: first over blocks, then within the
    chosen blocks.

    Args:
        capacity: Steps to remember, over all environments.
        num_envs: N.
        device: Device of the ring.
        gamma: Discount factor.
        n_steps: Steps per transition.
        alpha: The power of the error; 0 draws uniformly.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        device: torch.device,
        *,
        gamma: float,
        n_steps: int = 1,
        alpha: float = 0.6,
    ) -> None:
        super().__init__(capacity, num_envs, device, gamma=gamma, n_steps=n_steps)
        self.alpha = alpha
        self.priority = torch.zeros(0, device=device)  # (places, rounded up to whole blocks); 0 where there is no step
        self.highest = torch.ones((), device=device)  # the highest so far, given to new steps

    def memory(self, observation_space: spaces.Space, action_space: spaces.Space) -> int:
        """Memory in bytes."""
        return super().memory(observation_space, action_space) + 4 * self._blocks() * BLOCK

    def _put(
        self, action: Tensor, reward: Tensor, terminated: Tensor, truncated: Tensor, final_obs: Observation
    ) -> None:
        """Writes a step with the highest priority so far."""
        here = self.head.clone()
        super()._put(action, reward, terminated, truncated, final_obs)
        self.priority.index_copy_(0, here, self.highest.expand(self.num_envs))
        self.priority.index_fill_(0, self._after(here), 0.0)  # the new head, or a place that is not a step
        self.priority.index_fill_(0, self.head, 0.0)

    def sample(self, batch_size: int, rng: torch.Generator | None, beta: float | Tensor = 1.0) -> Batch:
        """Draws transitions by priority, one from each of ``batch_size`` equal shares of the sum.

        Their weights (equation in section 3.4, with the power ``beta``) correct the bias of this sampling, and are
        scaled to at most 1.
        """
        dtype = statistics_dtype(self.device)
        return self._drawn(torch.rand(batch_size, dtype=dtype, device=self.device, generator=rng), beta)

    def _drawn(self, chance: Tensor, beta: float | Tensor = 1.0) -> Batch:
        """The transitions that random numbers (B,) in [0, 1) pick."""
        blocks, dtype, size = self.priority.view(-1, BLOCK), chance.dtype, len(chance)
        sums = blocks.sum(1, dtype=dtype).cumsum(0)
        share = (torch.arange(size, device=self.device) + chance) / size
        block = _first_above(sums, share * sums[-1])
        inner = blocks[block].cumsum(1, dtype=dtype)
        rest = share * sums[-1] - sums[block] + inner[:, -1]
        index = block * BLOCK + _first_above(inner, rest.unsqueeze(1)).squeeze(1)
        priority = self.priority[index]
        return self.transitions(index, (priority / priority.min()).pow(-beta))

    def update(self, index: Tensor, error: Tensor) -> None:
        """Sets the priorities of places (B,) by the errors (B,) of their transitions."""
        priority = (error.abs() + 1e-6).pow(self.alpha)
        self.priority.index_copy_(0, index, priority)
        torch.maximum(self.highest, priority.max(), out=self.highest)

    def state_dict(self) -> dict[str, Any]:
        """The stored data, without copying it, the positions of the heads, and the priorities."""
        state = super().state_dict()
        return {**state, "priority": self.priority, "highest": self.highest} if state else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        super().load_state_dict(state)
        if state:
            self.priority.copy_(state["priority"])
            self.highest.copy_(state["highest"])

    def _allocate(self, obs: Observation) -> None:
        super()._allocate(obs)
        self.priority = torch.zeros(self._blocks() * BLOCK, device=self.device)

    def _blocks(self) -> int:
        return -(-self.places // BLOCK)


def _first_above(sums: Tensor, values: Tensor) -> Tensor:
    """The first place in ascending ``sums`` (..., n) that exceeds each value; values are clipped to below the last."""
    below = torch.nextafter(sums[..., -1:], torch.zeros_like(sums[..., -1:]))
    return torch.searchsorted(sums, torch.minimum(values, below).clamp_(min=0.0), right=True)
