"""Portfolio: spread wealth over assets whose returns are slightly predictable, while trading costs money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, RED, SILVER, SKY
from rltrain.env import TensorEnv
from rltrain.envs.business.drawing import bar, board, panel


@dataclass
class PortfolioState:
    """The holdings, and the signals of the assets. Cash comes after the K assets."""

    weights: Tensor  # (N, K + 1) shares of the wealth, as the market has moved them since the last trade
    signal: Tensor  # (N, K) forecast of each asset's return tomorrow beyond its mean, in deviations
    log_wealth: Tensor  # (N,) natural logarithm of the wealth divided by the initial wealth
    turnover: Tensor  # (N,) share of the wealth that the last trade moved


class Portfolio(TensorEnv[PortfolioState]):
    """Choose each day how to spread wealth over K assets and cash.

    Observation: (N, 2 K + 1): the signal of every asset (clipped at +-5), then the weights of the assets and cash.
    Action: (N, K + 1) in [-1, 1]: the new weights are the softmax of 5 times these, cash last; nothing is borrowed.
    Reward: the day's growth: the logarithm of the wealth in the evening by that of the evening before, percent.
    Episode end: none but the time limit, a year of trading days.
    Source: the model of Gârleanu and Pedersen, "Dynamic trading with predictable returns and transaction costs",
        2013, equations 1 and 2, with one mean-reverting signal for each asset, proportional costs and log utility.
    Baseline: equal weights in all assets, renewed each day (DeMiguel, Garlappi and Uppal, "Optimal versus naive
        diversification", 2009).

    A day: the trade is paid, then the assets return ``mean_return`` plus the signal's share plus noise, which is
    correlated between the assets. A day's return is never below -50%. By default a signal explains 0.7 percent of the
    variance of a day's return: bought and sold in proportion to it, at no cost and uncorrelated with anything else, one
    asset would have a Sharpe ratio of 1.3 a year.

    Args:
        assets: Number of assets, K.
        mean_return: Mean return of an asset, percent a day.
        volatility: Standard deviation of the noise, percent a day.
        correlation: Correlation between the noises of two assets.
        predictability: Standard deviation of the forecast, percent a day.
        reversion: Share of a signal that is lost in a day.
        cost: Cost of a trade, percent of what is moved.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``assets`` not from 1 to 500, ``volatility`` or ``predictability``
            below 0, ``correlation`` outside [0, 1], ``reversion`` not in (0, 1], ``cost`` outside [0, 50].
    """

    max_episode_steps = 250
    render_fps = 10

    def __init__(
        self,
        *,
        assets: int = 5,
        mean_return: float = 0.03,
        volatility: float = 1.2,
        correlation: float = 0.3,
        predictability: float = 0.1,
        reversion: float = 0.1,
        cost: float = 0.1,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.assets = self.whole("assets", assets, at_least=1, at_most=500)
        self.mean_return = self.constant("mean_return", mean_return, at_least=-50, at_most=50)
        self.volatility = self.constant("volatility", volatility, at_least=0)
        self.correlation = self.constant("correlation", correlation, at_least=0, at_most=1)
        self.predictability = self.constant("predictability", predictability, at_least=0)
        self.reversion = self.constant("reversion", reversion, above=0, at_most=1)
        self.cost = self.constant("cost", cost, at_least=0, at_most=50)
        low = np.array([-5] * assets + [0] * (assets + 1), dtype=np.float32)
        high = np.array([5] * assets + [1] * (assets + 1), dtype=np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (assets + 1,), dtype=np.float32)

    def reset(self, n: int, rng: torch.Generator | None) -> PortfolioState:
        """Everything in cash; signals from their long-run distribution."""
        weights = torch.zeros(n, self.assets + 1, device=self.device, dtype=self.dtype)
        weights[:, -1] = 1
        none = torch.zeros(n, device=self.device, dtype=self.dtype)
        signal = torch.randn(n, self.assets, generator=rng, device=self.device, dtype=self.dtype)
        return PortfolioState(weights, signal, none, none)

    def step(
        self, state: PortfolioState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[PortfolioState, Tensor, Tensor]:
        """One trade, and one day."""
        k = self.assets
        draws = torch.randn(len(action), 2 * k + 1, generator=rng, device=self.device, dtype=self.dtype)
        own, news, common = draws[:, :k], draws[:, k : 2 * k], draws[:, 2 * k :]
        noise = self.correlation.sqrt() * common + (1 - self.correlation).sqrt() * own
        move = self.mean_return + self.predictability * state.signal + self.volatility * noise
        growth = torch.ones_like(state.weights)
        growth[:, :k] += (move / 100).clamp(min=-0.5)

        target = torch.softmax(5 * action.to(self.dtype).clamp(-1, 1), dim=-1)
        turnover = (target - state.weights).abs().sum(1) / 2
        worth = target * growth
        total = worth.sum(1)
        gain = (total * (1 - turnover * self.cost / 100)).log()
        keep = 1 - self.reversion
        after = PortfolioState(
            weights=worth / total.unsqueeze(1),
            signal=keep * state.signal + (1 - keep.square()).sqrt() * news,
            log_wealth=state.log_wealth + gain,
            turnover=turnover,
        )
        return after, 100 * gain, torch.zeros_like(gain, dtype=torch.bool)

    def observe(self, state: PortfolioState) -> Tensor:
        """(N, 2 K + 1)."""
        return torch.cat((state.signal.clamp(-5, 5), state.weights.clamp(0, 1)), 1)

    def info(self, state: PortfolioState) -> dict[str, Tensor]:
        """The wealth divided by the initial wealth, and the share of it that the last trade moved."""
        return {"wealth": state.log_wealth.exp(), "turnover": state.turnover}

    def baseline(self, state: PortfolioState) -> Tensor:
        """(N, K + 1): all assets alike, and next to no cash."""
        action = torch.ones_like(state.weights)
        action[:, -1] = -1
        return action

    def render(self, state: PortfolioState, index: int = 0) -> Tensor:
        """The weights, the signals and the wealth, (400, 600, 3) uint8."""
        weights, signal = state.weights[index].tolist(), state.signal[index].tolist()
        wealth, turnover = float(state.log_wealth[index].exp()), float(state.turnover[index])
        canvas = board()
        panel(canvas, (10, 150, 590, 390), "held and foretold", "weight, signal")
        wide = 560 / (self.assets + 1)
        for i, weight in enumerate(weights):
            x = 20 + wide * i
            bar(
                canvas,
                (x + 0.14 * wide, 190, x + 0.5 * wide, 350),
                weight,
                BLUE if i < self.assets else SKY,
                upright=True,
            )
            canvas.text((x + 0.32 * wide, 176), f"{100 * weight:.0f}%", INK, size=12)
            canvas.text((x + 0.5 * wide, 162), f"asset {i + 1}" if i < self.assets else "cash", GREY, size=12)
            if i < self.assets:
                middle, reach = 270, max(-80.0, min(80.0, 32 * signal[i]))
                left, right = x + 0.6 * wide, x + 0.82 * wide
                canvas.rectangle(left, 190, right, 350, SILVER, radius=3)
                low, high = sorted((middle, middle + reach))
                canvas.rectangle(left, low, right, max(high, low + 2), GREEN if reach > 0 else RED, radius=2)
        panel(canvas, (10, 10, 300, 142), "wealth, start = 1")
        canvas.text((155, 62), f"{wealth:.3f}", GREEN if wealth >= 1 else RED, size=46)
        panel(canvas, (310, 10, 590, 142), "last trade", f"{100 * turnover:.0f}% moved")
        bar(canvas, (330, 50, 570, 80), turnover, GREY)
        return canvas.picture()
