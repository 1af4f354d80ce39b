"""Differentially private learning: DP-SGD (Abadi et al. 2016, arXiv:1607.00133), its budget counted by Opacus.

What is protected is a unit: all episodes of one value of a group column, such as a person, or one episode. In each step
every unit takes part with the same chance, by itself. The gradient of its loss is cut to a norm, and noise
in proportion to that norm is added to the sum. Nothing else of the data may reach the policy.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rltrain.agents.parts.optim import FlatAdam, grad_of
from rltrain.data.dataset import Dataset
from rltrain.errors import ConfigError
from rltrain.rng import generator_state, make_generator, set_generator_state


def epsilon_of(noise: float, rate: float, steps: int, delta: float) -> float:
    """The budget that so many steps spend, by the Rényi accountant of Opacus (Mironov et al. 2019, arXiv:1908.10530).

    Args:
        noise: Standard deviation of the noise as a multiple of the norm that gradients are cut to.
        rate: Chance of each unit to take part in a step.
        steps: Steps.
        delta: Chance that the promise of epsilon does not hold.

    Raises:
        ConfigError: Opacus is not installed.
    """
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise ConfigError("Opacus is not installed.", "pip install 'rltrain[privacy]'") from error
    if not steps:
        return 0.0
    accountant = RDPAccountant()
    accountant.history = [(noise, rate, steps)]
    with warnings.catch_warnings():  # about the orders that it tries
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta=delta))


class PrivateGradients:
    """Noisy gradients, and what they have spent.

    The noise and the choice of units come from the system's randomness, not from the seed of the run, which is in its
    configuration for everybody to read.

    Args:
        dataset: The dataset.
        by: The group column whose values are the units; None for episodes.
        expected: Units that take part in a step, on average.
        rows: Steps of a unit that its gradient is computed from.
        clip: The norm that the gradient of a unit is cut to.
        noise: Standard deviation of the noise, as a multiple of ``clip``.
        budget: Epsilon that may be spent.
        delta: See :func:`epsilon_of`.
        device: Where the gradients are.

    Raises:
        ConfigError: There is no such column, or too few units.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        by: str | None,
        expected: int,
        rows: int,
        clip: float,
        noise: float,
        budget: float,
        delta: float,
        device: torch.device,
    ) -> None:
        if by is not None and by not in dataset.groups:
            what = f"'{dataset.path}' has no group column '{by}'."
            raise ConfigError(what, f"It has: {', '.join(dataset.groups) or 'none'}.")
        codes = np.arange(len(dataset.episodes)) if by is None else dataset.episodes.groups[by]
        self.units = [dataset.steps_of(np.flatnonzero(codes == code)) for code in np.unique(codes)]
        self.rate = expected / len(self.units)
        if self.rate > 1.0:
            what = f"There are {len(self.units)} units to protect, and {expected} are to take part in a step."
            raise ConfigError(what, "Lower --agent.dp-units.")
        if delta * len(self.units) >= 1.0:
            what = f"dp_delta={delta:g} promises nothing for {len(self.units)} units."
            raise ConfigError(what, f"Give one well below {1.0 / len(self.units):.1g}.")
        self.by, self.rows, self.clip, self.noise, self.budget, self.delta = by, rows, clip, noise, budget, delta
        self.steps = 0
        self.rng = make_generator(device, secrets.randbits(63))
        self.device = device

    def spent(self, further: int = 0) -> float:
        """Epsilon of the steps so far, and so many more."""
        return epsilon_of(self.noise, self.rate, self.steps + further, self.delta)

    def facts(self) -> dict[str, Any]:
        """What is promised, as JSON values."""
        return {
            "epsilon": self.spent(),
            "delta": self.delta,
            "unit": "episode" if self.by is None else self.by,
            "units": len(self.units),
            "noise_multiplier": self.noise,
            "max_grad_norm": self.clip,
            "sample_rate": self.rate,
            "steps": self.steps,
            "accountant": "RDP of Opacus",
        }

    def draw(self) -> list[np.ndarray]:
        """The rows of the units that take part in a step: each unit by itself, with the same chance."""
        assert self.rng is not None
        chances = torch.rand(len(self.units), device=self.device, generator=self.rng)
        taken = (chances < self.rate).nonzero().flatten().tolist()
        chosen = []
        for unit in taken:
            places = torch.randint(len(self.units[unit]), (self.rows,), device=self.device, generator=self.rng)
            chosen.append(self.units[unit][places.cpu().numpy()])
        return chosen

    def put(self, optimizer: FlatAdam, loss_of: Callable[[np.ndarray], Tensor], chosen: list[np.ndarray]) -> None:
        """Puts the noisy gradient of a step in its place, and counts the step.

        Args:
            optimizer: Whose gradient it is.
            loss_of: The loss (0-d) of rows of one unit.
            chosen: The units, by :meth:`draw`.
        """
        gradient = grad_of(optimizer.flat)
        total = self.clipped_sum(gradient, loss_of, chosen)
        noise = torch.randn(total.shape, device=self.device, generator=self.rng)
        gradient.copy_((total + self.noise * self.clip * noise) / (self.rate * len(self.units)))
        self.steps += 1

    def clipped_sum(
        self, gradient: Tensor, loss_of: Callable[[np.ndarray], Tensor], chosen: list[np.ndarray]
    ) -> Tensor:
        """The sum of the units' gradients, each cut to the norm; one unit changes it by no more than that."""
        total = torch.zeros_like(gradient)
        for rows in chosen:
            gradient.zero_()
            loss_of(rows).backward()
            norm = torch.linalg.vector_norm(gradient)
            total += gradient * (self.clip / norm.clamp(min=self.clip))
        return total

    def state_dict(self) -> dict[str, Any]:
        """The count and the generator. Whoever has these can take the noise off: they are not for others."""
        return {"steps": self.steps, "rng": generator_state(self.rng)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        self.steps = int(state["steps"])
        set_generator_state(self.rng, state["rng"])
