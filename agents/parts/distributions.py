"""Action distributions over the outputs of a network, one class for each kind of action space.

A distribution turns network outputs ``params`` (..., P) and noise drawn beforehand into actions, and gives
log-probabilities and entropies. Sampling is arithmetic on noise: it never waits for the device, and a
whole rollout's noise is drawn at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.parts.squashed import LOG_2PI, between, log_slope_of_tanh
from rltrain.errors import ConfigError

INSIDE = 1.0 - 1e-6  # the largest share of a bound that a squashed action is taken for


class Distribution(nn.Module, ABC):
    """A family of distributions over actions.

    Attributes:
        size: P, the number of network outputs per distribution.
    """

    size: int

    @abstractmethod
    def noise(self, shape: tuple[int, ...], device: torch.device, rng: torch.Generator | None) -> Tensor:
        """Noise for ``shape`` samples: (*shape, P)."""

    @abstractmethod
    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Raw actions, as :meth:`log_prob_entropy` takes them."""

    @abstractmethod
    def mode(self, params: Tensor) -> Tensor:
        """The most likely raw actions."""

    @abstractmethod
    def log_prob_entropy(self, params: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of raw actions and entropy, each (...)."""

    @abstractmethod
    def backward(self, params: Tensor, raw: Tensor, log_prob_grad: Tensor, entropy_grad: float) -> Tensor:
        """Maps gradients of :meth:`log_prob_entropy` to the gradient of ``params``, (..., B, P).

        It also overwrites the ``grad`` of the distribution's own parameters.

        Args:
            params: (B, P), or (K, B, P) for K policies, without a gradient.
            raw: Raw actions, one for each row of ``params``.
            log_prob_grad: Gradient of the log-probabilities, (..., B).
            entropy_grad: Gradient of the entropy, the same for every row.
        """

    def log_volume(self) -> Tensor | float:
        """How much lower the log-density of an action of the environment is than :meth:`log_prob_entropy` says."""
        return 0.0

    def to_env(self, raw: Tensor) -> Tensor:
        """Actions for the environment, inside the action space."""
        return raw

    def from_env(self, action: Tensor) -> Tensor:
        """Raw actions that :meth:`to_env` turns into these."""
        return action


class Categorical(Distribution):
    """Discrete actions; sampled by the Gumbel-max trick."""

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__()
        self.size = int(space.n)
        self.start = int(space.start)

    def noise(self, shape: tuple[int, ...], device: torch.device, rng: torch.Generator | None) -> Tensor:
        return _gumbel((*shape, self.size), device, rng)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        return (params + noise).max(-1).indices

    def mode(self, params: Tensor) -> Tensor:
        return params.argmax(-1)

    def log_prob_entropy(self, params: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = _columns(params).log_softmax(0)
        log_prob = log_probs.gather(0, raw.unsqueeze(0)).squeeze(0)
        return log_prob, -(log_probs.exp() * log_probs).sum(0)

    def backward(self, params: Tensor, raw: Tensor, log_prob_grad: Tensor, entropy_grad: float) -> Tensor:
        log_probs = _columns(params).log_softmax(0)
        return _category_grad(log_probs, raw.unsqueeze(0), log_prob_grad.unsqueeze(0), entropy_grad, 0).movedim(0, -1)

    def to_env(self, raw: Tensor) -> Tensor:
        return raw + self.start if self.start else raw

    def from_env(self, action: Tensor) -> Tensor:
        return action - self.start if self.start else action


class MultiCategorical(Distribution):
    """MultiDiscrete actions: independent categorical distributions with concatenated logits."""

    start: Tensor  # (K,)

    def __init__(self, space: spaces.MultiDiscrete) -> None:
        super().__init__()
        self.sizes = [int(n) for n in space.nvec]
        self.size = sum(self.sizes)
        start = torch.as_tensor(np.asarray(space.start), dtype=torch.int64)
        self.register_buffer("start", start, persistent=False)

    def noise(self, shape: tuple[int, ...], device: torch.device, rng: torch.Generator | None) -> Tensor:
        return _gumbel((*shape, self.size), device, rng)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        return self.mode(params + noise)

    def mode(self, params: Tensor) -> Tensor:
        return torch.stack([part.argmax(-1) for part in params.split(self.sizes, -1)], -1)

    def log_prob_entropy(self, params: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = [part.log_softmax(-1) for part in params.split(self.sizes, -1)]
        chosen = [part.gather(-1, raw[..., i : i + 1]) for i, part in enumerate(log_probs)]
        entropies = [-(part.exp() * part).sum(-1) for part in log_probs]
        return torch.cat(chosen, -1).sum(-1), torch.stack(entropies, -1).sum(-1)

    def backward(self, params: Tensor, raw: Tensor, log_prob_grad: Tensor, entropy_grad: float) -> Tensor:
        log_probs = [part.log_softmax(-1) for part in params.split(self.sizes, -1)]
        each, slope = raw.split(1, -1), log_prob_grad.unsqueeze(-1)
        parts = zip(log_probs, each, strict=True)
        return torch.cat([_category_grad(part, chosen, slope, entropy_grad, -1) for part, chosen in parts], -1)

    def to_env(self, raw: Tensor) -> Tensor:
        return raw + self.start

    def from_env(self, action: Tensor) -> Tensor:
        return action - self.start


class Bernoulli(Distribution):
    """MultiBinary actions: independent coin flips; the network outputs the log-odds of a 1."""

    def __init__(self, space: spaces.MultiBinary) -> None:
        super().__init__()
        if len(space.shape) != 1:
            raise ConfigError(f"PPO cannot act in {space}.", "Use a MultiBinary space with one dimension.")
        self.size = space.shape[0]

    def noise(self, shape: tuple[int, ...], device: torch.device, rng: torch.Generator | None) -> Tensor:
        # The difference of two Gumbel variables is logistic.
        return _gumbel((*shape, self.size), device, rng) - _gumbel((*shape, self.size), device, rng)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        return (params + noise > 0).to(torch.int8)

    def mode(self, params: Tensor) -> Tensor:
        return (params > 0).to(torch.int8)

    def log_prob_entropy(self, params: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        ones = raw.to(params.dtype)
        log_prob = ones * params - F.softplus(params)
        entropy = F.softplus(params) - params * params.sigmoid()
        return log_prob.sum(-1), entropy.sum(-1)

    def backward(self, params: Tensor, raw: Tensor, log_prob_grad: Tensor, entropy_grad: float) -> Tensor:
        probs = params.sigmoid()
        by_log_prob = (raw.to(params.dtype) - probs) * log_prob_grad.unsqueeze(-1)
        return by_log_prob - entropy_grad * params * probs * (1.0 - probs)


class Gaussian(Distribution):
    """Box actions with a learned deviation that does not depend on the state, clipped for the environment.

    ``log_std`` is (P,), or (K, 1, P) if K policies are stacked.

    The loss uses the unclipped action, as in Stable-Baselines3.
    """

    low: Tensor  # (*A)
    high: Tensor  # (*A)
    needs_bounds = False

    def __init__(self, space: spaces.Box, log_std_init: float) -> None:
        super().__init__()
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()) and self.needs_bounds:
            raise ConfigError(
                f"Actions cannot be squashed into the unbounded {space}.", "Set policy_kwargs.squash_output to false."
            )
        self.shape = space.shape
        self.size = int(np.prod(space.shape))
        self.log_std = nn.Parameter(torch.full((self.size,), log_std_init))
        self.register_buffer("low", torch.as_tensor(space.low, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.as_tensor(space.high, dtype=torch.float32), persistent=False)

    def noise(self, shape: tuple[int, ...], device: torch.device, rng: torch.Generator | None) -> Tensor:
        return torch.randn((*shape, self.size), device=device, generator=rng)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        return torch.addcmul(params, self.log_std.exp(), noise)

    def mode(self, params: Tensor) -> Tensor:
        return params

    def log_prob_entropy(self, params: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        z = (raw - params) * (-self.log_std).exp()
        log_std = self.log_std.sum(-1)
        log_prob = -0.5 * z.square().sum(-1) - log_std - 0.5 * LOG_2PI * self.size
        entropy = log_std + 0.5 * (1.0 + LOG_2PI) * self.size
        return log_prob, entropy.expand_as(log_prob)

    @torch.no_grad()
    def backward(self, params: Tensor, raw: Tensor, log_prob_grad: Tensor, entropy_grad: float) -> Tensor:
        by_log_prob, inverse = log_prob_grad.unsqueeze(-1), (-self.log_std.detach()).exp()
        z = (raw - params) * inverse
        assert self.log_std.grad is not None
        torch.sum((z.square() - 1.0) * by_log_prob, -2, keepdim=self.log_std.dim() > 1, out=self.log_std.grad)
        self.log_std.grad.add_(entropy_grad * raw.shape[-2])
        return z * inverse * by_log_prob

    def to_env(self, raw: Tensor) -> Tensor:
        return self._shaped(raw).clamp(self.low, self.high)

    def from_env(self, action: Tensor) -> Tensor:
        return action.flatten(action.dim() - len(self.shape)) if self.shape else action.unsqueeze(-1)

    def _shaped(self, raw: Tensor) -> Tensor:
        return raw.view(*raw.shape[:-1], *self.shape)


class SquashedGaussian(Gaussian):
    """Box actions as tanh of a Gaussian, scaled to their bounds.

    Raw actions are those before tanh. Haarnoja et al. (2018), arXiv:1812.05905, appendix C.
    """

    needs_bounds = True

    def log_prob_entropy(self, params: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        log_prob, _ = super().log_prob_entropy(params, raw)
        log_prob = log_prob - log_slope_of_tanh(raw).sum(-1)
        return log_prob, -log_prob  # no closed form for the entropy: one sample's estimate

    def backward(self, params: Tensor, raw: Tensor, log_prob_grad: Tensor, entropy_grad: float) -> Tensor:
        # For given raw actions, tanh only adds a constant to the log-probability.
        return super().backward(params, raw, log_prob_grad - entropy_grad, 0.0)

    def log_volume(self) -> Tensor | float:
        return (0.5 * (self.high - self.low)).log().sum()

    def to_env(self, raw: Tensor) -> Tensor:
        return between(self.low, self.high, self._shaped(raw).tanh())

    def from_env(self, action: Tensor) -> Tensor:
        # A little inside the bounds, where tanh has an inverse.
        share = (2.0 * (action - self.low) / (self.high - self.low) - 1.0).clamp(-INSIDE, INSIDE)
        return super().from_env(share.atanh())


def _columns(params: Tensor) -> Tensor:
    """(..., P) as (P, ...): on a CPU, a softmax over many short rows takes 20 times as long as over long columns."""
    return params.movedim(-1, 0).contiguous()


def _category_grad(log_probs: Tensor, chosen: Tensor, log_prob_grad: Tensor, entropy_grad: float, dim: int) -> Tensor:
    """The gradient of logits along ``dim``, where ``chosen`` and ``log_prob_grad`` have size 1."""
    probs = log_probs.exp()
    grad = (probs * -log_prob_grad).scatter_add_(dim, chosen, log_prob_grad)
    if entropy_grad:  # dH/dz = -p (log p + H)
        entropy = -(probs * log_probs).sum(dim, keepdim=True)
        grad.addcmul_(probs, log_probs + entropy, value=-entropy_grad)
    return grad


def _gumbel(shape: tuple[int, ...], device: torch.device, rng: torch.Generator | None) -> Tensor:
    return torch.empty(shape, device=device).exponential_(generator=rng).log_().neg_()


def make_distribution(space: spaces.Space, *, log_std_init: float = 0.0, squash: bool = False) -> Distribution:
    """The distribution for an action space.

    Raises:
        ConfigError: No distribution fits the space.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(space)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return MultiCategorical(space)
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(space)
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        return (SquashedGaussian if squash else Gaussian)(space, log_std_init)
    raise ConfigError(
        f"There is no policy for the action space {space}.",
        "Use a Discrete, MultiDiscrete, MultiBinary or floating-point Box action space.",
    )
