"""DynamicPricing: sell a stock before the season ends to customers about whom little is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, SKY
from rltrain.env import TensorEnv
from rltrain.envs.business.chance import count_cdf
from rltrain.envs.business.drawing import WHITE, bar, board, panel


@dataclass
class DynamicPricingState:
    """Stock, time, what was learned about the customers, and their true behaviour."""

    stock: Tensor  # (N,) units left
    day: Tensor  # (N,) days gone by
    last: Tensor  # (N, 2) last day's price (euros) and sales (units)
    sums: Tensor  # (N, 4) over the days gone by: price, price^2, sales, price * sales
    drawn: Tensor  # (N, K) the constants drawn for this episode, which are not observed


class DynamicPricing(TensorEnv[DynamicPricingState]):
    """Sell a stock within a season, at a price set day by day, to an unknown number of customers.

    Observation: (N, 8): the share of the stock that is left; the share of the days that is left; p, the last day's
        price divided by ``max_price``; d, its sales divided by the stock for a day; and the averages of p, p^2, d and p
        d over the days so far, which are all that a linear regression of sales on prices needs.
    Action: (N, 1): the day's price, from -1 for ``min_price`` to 1 for ``max_price``.
    Reward: the day's revenue, in thousands of euros.
    Episode end: all is sold, or the season is over. What is left then is worth nothing.
    Source: Gallego and van Ryzin, "Optimal dynamic pricing of inventories with stochastic demand over finite
        horizons", 1994, with linear demand; unknown to the seller as in den Boer and Zwart, "Simultaneously learning
        and optimizing using controlled variance pricing", 2014.
    Baseline: certainty equivalence: the price that would be best for a fluid demand that equals the least-squares
        estimate from the sales so far (Gallego and van Ryzin, section 4).

    Customers come as a Poisson process, and each buys one unit if the price is not above what it is worth to the
    customer, which is uniform between 0 and a limit. How many come, and the limit, are drawn anew for every episode.

    Args:
        customers: Mean number of customers, per day; a range ``[low, high]`` to draw it for every episode.
        limit: Largest value of a unit to any customer, euros; may be a range as well.
        stock: Units at the start of the season.
        days: Length of the season.
        min_price: Lowest price, euros.
        max_price: Highest price, euros.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``stock`` or ``days`` below 1, ``min_price`` below 0, ``max_price``
            not above it, or another not above 0.
    """

    render_fps = 4

    def __init__(
        self,
        *,
        customers: float | Sequence[float] = (2.0, 10.0),
        limit: float | Sequence[float] = (60.0, 140.0),
        stock: int = 100,
        days: int = 50,
        min_price: float = 10.0,
        max_price: float = 130.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.customers = self.constant("customers", customers, above=0, per_episode=True)
        self.limit = self.constant("limit", limit, above=0, per_episode=True)
        self.stock = self.whole("stock", stock, at_least=1)
        self.days = self.whole("days", days, at_least=1)
        self.min_price = self.constant("min_price", min_price, at_least=0)
        self.max_price = self.constant("max_price", max_price, above=min_price)
        most = max(map(float, customers)) if isinstance(customers, Sequence) else float(customers)
        self._terms = math.ceil(most + 6 * math.sqrt(most) + 6)  # larger counts have probability 0 in float32
        high = np.array([1, 1, 1, days, 1, 1, days, days], dtype=np.float32)  # all of the stock sold on one day
        self.observation_space = spaces.Box(0.0, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)

    def reset(self, n: int, rng: torch.Generator | None) -> DynamicPricingState:
        """The whole stock, and unknown customers."""
        none = torch.zeros(n, 4, device=self.device, dtype=self.dtype)
        stock = torch.full_like(none[:, 0], self.stock)
        return DynamicPricingState(stock, none[:, 0], none[:, :2], none, self.draw_constants(n, rng))

    def step(
        self, state: DynamicPricingState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[DynamicPricingState, Tensor, Tensor]:
        """A day's sales."""
        c = self.constants_of(state.drawn)
        share = (action.squeeze(-1).to(self.dtype).clamp(-1, 1) + 1) / 2
        price = torch.lerp(self.min_price, self.max_price, share)
        rate = c.customers * (1 - price / c.limit).clamp(min=0)
        u = torch.rand(len(price), 1, generator=rng, device=self.device, dtype=self.dtype)
        demand = torch.searchsorted(count_cdf(rate, self._terms), u).squeeze(1).to(self.dtype)
        sold = torch.minimum(demand, state.stock)

        revenue = price * sold
        sums = state.sums + torch.stack((price, price.square(), sold, revenue), dim=1)
        last = torch.stack((price, sold), dim=1)
        after = DynamicPricingState(state.stock - sold, state.day + 1, last, sums, state.drawn)
        return after, revenue * 1e-3, (after.stock <= 0) | (after.day >= self.days)

    def observe(self, state: DynamicPricingState) -> Tensor:
        """What is left, the last day, and averages: (N, 8)."""
        left = torch.stack((state.stock / self.stock, 1 - state.day / self.days), dim=1)
        price, sales = 1 / self.max_price, self.max_price.new_full((), self.days / self.stock)
        averages = state.sums / state.day.clamp(min=1).unsqueeze(1)
        units = torch.stack((price, sales, price, price.square(), sales, price * sales))
        return torch.cat((left, torch.cat((state.last, averages), dim=1) * units), dim=1)

    def baseline(self, state: DynamicPricingState) -> Tensor:
        """The fluid price for the demand a - b * price that least squares find.

        So that there is an estimate from the first day on, it assumes two earlier days in an average market, with
        prices of a quarter and three quarters of the limit.
        """
        customers, limit = self.customers.mean(), self.limit.mean()
        seen = torch.stack((limit, limit**2 * 0.625, customers, customers * limit * 0.375))
        n = state.day + 2
        p, pp, d, pd = (state.sums + seen).unbind(1)
        b = ((p * d - n * pd) / (n * pp - p.square())).clamp(min=1e-3)
        a = (d + b * p) / n
        per_day = state.stock / (self.days - state.day).clamp(min=1)
        price = torch.maximum(a / 2, a - per_day) / b  # the best without a stock; the one at which it just lasts
        share = (price - self.min_price) / (self.max_price - self.min_price)
        return (2 * share - 1).clamp(-1, 1).unsqueeze(1)

    def render(self, state: DynamicPricingState, index: int = 0) -> Tensor:
        """Stock and season as bars, the last day, and what customers would buy at which price, (400, 600, 3) uint8."""
        stock, day = float(state.stock[index]), float(state.day[index])
        price, sold = state.last[index].tolist()
        total, _, units, revenue = state.sums[index].tolist()
        c = self.constants_of(state.drawn[index])
        customers, limit, highest = float(c.customers), float(c.limit), float(self.max_price)
        canvas = board()

        panel(canvas, (10, 205, 250, 390), "stock", f"{stock:.0f} of {self.stock}")
        bar(canvas, (26, 320, 234, 350), stock / self.stock, BLUE)
        canvas.text((26, 292), "days left", GREY, size=13, anchor="lm")
        canvas.text((234, 292), f"{self.days - day:.0f} of {self.days}", size=14, anchor="rm")
        bar(canvas, (26, 232, 234, 262), 1 - day / self.days, SKY)

        panel(canvas, (10, 10, 250, 195), "last day")
        canvas.text((26, 128), f"{price:.0f} EUR", ORANGE, size=38, anchor="lm")
        canvas.text((234, 128), f"{sold:.0f} sold", GREEN, size=24, anchor="rm")
        canvas.text((26, 60), "revenue so far", GREY, size=13, anchor="lm")
        canvas.text((26, 36), f"{revenue:,.0f} EUR", size=20, anchor="lm")

        panel(canvas, (260, 10, 590, 390), "demand and price", "customers a day")
        left, bottom, right, top = 300, 60, 570, 340
        most = 1.1 * max(float(self.customers.max()), 1e-9)

        def at(euros: float, count: float) -> tuple[float, float]:
            return left + (right - left) * euros / highest, bottom + (top - bottom) * min(count / most, 1)

        canvas.line([(left, top), (left, bottom), (right, bottom)], GREY, width=2)
        for share in (0.25, 0.5, 0.75, 1.0):
            x, y = at(share * highest, share * most)
            canvas.text((x, bottom - 14), f"{share * highest:.0f}", GREY, size=12)
            canvas.text((left - 8, y), f"{share * most:.2g}", GREY, size=12, anchor="rm")
        canvas.text((right, bottom - 32), "price, EUR", GREY, size=12, anchor="rm")
        end = min(limit, highest)
        canvas.line([at(0, customers), at(end, customers * (1 - end / limit))], SKY, width=4)
        canvas.text((right, top - 4), "the truth, unknown to the seller", GREY, size=12, anchor="rm")
        canvas.line([(right - 200, top - 4), (right - 182, top - 4)], SKY, width=4)
        if day > 0:
            canvas.circle(at(total / day, units / day), 8, INK)
            canvas.text((right, top - 24), "average so far", GREY, size=12, anchor="rm")
            canvas.circle((right - 191, top - 24), 5, INK)
            canvas.circle(at(price, sold), 8, ORANGE)
            canvas.circle(at(price, sold), 4, WHITE)
            canvas.text((right, top - 44), "last day", GREY, size=12, anchor="rm")
            canvas.circle((right - 191, top - 44), 5, ORANGE)
        return canvas.picture()
