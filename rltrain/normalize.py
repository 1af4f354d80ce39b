"""Normalisers of observations and rewards. Their running statistics change only between rollouts, when told to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agent import Agent, identity
from rltrain.devices import statistics_dtype
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.spaces import MASK, entries_of, is_picture


class RunningMoments(nn.Module):
    """Mean and variance of everything seen, merged batch by batch; in float64, where the device has it.

    Chan, Golub and LeVeque (1979), "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", equation 2.1.

    Args:
        shape: Shape of one sample.

    Attributes:
        reduce: Mean of a tensor over all ranks, each of which merges a batch of its own; see :func:`across_ranks`.
        ranks: Number of ranks.
    """

    mean: Tensor  # shape
    var: Tensor  # shape
    count: Tensor  # 0-d

    def __init__(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.reduce: Callable[[Tensor], Tensor] = identity
        self.ranks = 1
        dtype = statistics_dtype(device)
        self.register_buffer("mean", torch.zeros(shape, dtype=dtype, device=device))
        self.register_buffer("var", torch.ones(shape, dtype=dtype, device=device))
        self.register_buffer("count", torch.full((), 1e-4, dtype=dtype, device=device))

    @torch.no_grad()
    def update(self, samples: Tensor) -> None:
        """Merges ``samples`` (B, *shape), B being the same on all ranks."""
        samples = samples.to(self.mean.dtype)
        size = samples.shape[0] * self.ranks
        delta, var = samples.mean(0) - self.mean, samples.var(0, correction=0)
        if self.ranks > 1:  # the mean and variance of all batches as one, around a mean that all ranks know
            delta, square = self.reduce(torch.stack((delta, var + delta.square()))).unbind()
            var = square - delta.square()
        total = self.count + size
        spread = self.var * self.count + var * size + delta.square() * (self.count * size / total)
        self.mean.copy_(self.mean + delta * (size / total))
        self.var.copy_(spread / total)
        self.count.copy_(total)


def moments_of(agent: object) -> list[RunningMoments]:
    """The running statistics of an agent."""
    return [each for each in agent.modules() if isinstance(each, RunningMoments)] if isinstance(agent, Agent) else []


@torch.no_grad()
def dead_share(moments: Iterable[RunningMoments]) -> Tensor:
    """The share of elements, 0-d, that have never changed: their spread is no more than statistics begin with."""
    dead = [(each.var * each.count < 2e-4 * (1.0 + each.mean.square())).flatten() for each in moments]
    return torch.cat(dead).to(torch.float32).mean()


def across_ranks(agent: Agent, reduce: Callable[[Tensor], Tensor], ranks: int) -> None:
    """Makes an agent and its normalisers learn from the experience of all ranks."""
    for module in agent.modules():
        if isinstance(module, Agent | RunningMoments):
            module.reduce, module.ranks = reduce, ranks


class ObservationNormalizer(nn.Module):
    """Scales observations to mean 0 and deviation 1, clipped to ±``clip``.

    Every element of every Box is scaled by statistics of its own, whole numbers included. Pictures, categories, flags
    and action masks pass through.

    Args:
        space: Space of a single observation, Dict allowed.
        clip: Largest magnitude after scaling.
    """

    def __init__(self, space: spaces.Space, clip: float = 10.0, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.clip = clip
        self.moments = nn.ModuleDict(
            {
                _module_of(name): RunningMoments(part.shape or (), device)
                for name, part in entries_of(space).items()
                if is_scaled(name, part)
            }
        )

    def forward(self, obs: Observation) -> Observation:
        """Scaled observations (..., *O)."""
        scaled = [self._scale(part, name) for name, part in _by_module(obs).items()]
        return scaled[0] if isinstance(obs, Tensor) else dict(zip(obs, scaled, strict=True))

    def _scale(self, obs: Tensor, name: str) -> Tensor:
        if name not in self.moments:
            return obs
        moments = self.moments[name]
        assert isinstance(moments, RunningMoments)
        if not obs.is_floating_point():
            obs = obs.to(torch.float32)
        mean = moments.mean.to(obs.dtype)
        scale = (moments.var + 1e-8).rsqrt().to(obs.dtype)
        return ((obs - mean) * scale).clamp(-self.clip, self.clip)

    def update(self, obs: Observation) -> None:
        """Merges observations (B, *O)."""
        parts = _by_module(obs)
        for name, moments in self.moments.items():
            assert isinstance(moments, RunningMoments)
            moments.update(parts[name])

    def keep_only(self, names: Iterable[str]) -> None:
        """Leaves parts out whose moments are not among the names of tensors.

        Policies were trained when fewer parts were scaled, and go on as they were trained.
        """
        known = {name.rpartition(".moments.")[2].rpartition(".")[0] for name in names if ".moments." in name}
        for name in [name for name in self.moments if name not in known]:
            del self.moments[name]


def is_scaled(name: str, space: spaces.Space) -> bool:
    """Whether an entry of an observation is made of numbers that a normaliser scales."""
    return isinstance(space, spaces.Box) and not is_picture(space) and name != MASK


def check_scaled(space: spaces.Space) -> None:
    """Warns of parts of an observation that a normaliser leaves as they are.

    Raises:
        ConfigError: There is no part that it scales.
    """
    left = {name: part for name, part in entries_of(space).items() if not is_scaled(name, part) and name != MASK}
    if not any(is_scaled(name, part) for name, part in entries_of(space).items()):
        raise ConfigError(
            f"There is nothing to normalise in {space}: pictures and categories are not.",
            "Leave --agent.normalize-obs out.",
        )
    if left:
        kinds = [f"'{name}' ({'a picture' if is_picture(part) else 'categories'})" for name, part in left.items()]
        warnings.warn(f"normalize_obs leaves out {', '.join(kinds)}.", stacklevel=2)


def _by_module(observation: Observation) -> dict[str, Tensor]:
    """The entries of an observation by the names of their modules."""
    named = observation if isinstance(observation, Mapping) else {"": observation}
    return {_module_of(name): part for name, part in named.items()}


def _module_of(name: str) -> str:
    """The name of the module for an entry.

    Brackets, because a module may have no child named like a method of it (``double``, ``type``), nor a dot.
    """
    return f"[{name.replace('.', '/')}]" if name else "observation"


class RewardNormalizer(nn.Module):
    """Divides rewards by the running deviation of the discounted return, clipped to ±``clip``.

    Engstrom et al. (2020), "Implementation Matters in Deep RL", arXiv:2005.12729, section 3.

    Args:
        num_envs: N.
        gamma: Discount factor.
        clip: Largest magnitude after scaling.
    """

    returns: Tensor  # (N,) discounted return of the running episodes

    def __init__(self, num_envs: int, gamma: float, clip: float = 10.0, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.gamma = gamma
        self.clip = clip
        self.moments = RunningMoments((), device)
        self.register_buffer(
            "returns", torch.zeros(num_envs, dtype=self.moments.mean.dtype, device=device), persistent=False
        )

    @torch.no_grad()
    def forward(self, reward: Tensor, done: Tensor) -> Tensor:
        """Updates the statistics with a rollout's rewards (T, N) and returns them scaled."""
        discounted = torch.empty_like(reward, dtype=self.returns.dtype)
        running = self.returns
        for t in range(reward.shape[0]):
            running = running * self.gamma + reward[t]
            discounted[t] = running
            running = running.masked_fill(done[t], 0.0)
        self.returns.copy_(running)
        self.moments.update(discounted.flatten())
        return self.scaled(reward)

    def scaled(self, reward: Tensor, n_steps: int = 1) -> Tensor:
        """Scales rewards, or sums of those of ``n_steps`` steps, by the statistics so far."""
        scale = (self.moments.var + 1e-8).rsqrt().to(reward.dtype)
        return (reward * scale).clamp(-self.clip * n_steps, self.clip * n_steps)
