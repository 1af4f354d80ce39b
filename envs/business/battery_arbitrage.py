"""Battery arbitrage: buy electricity when it is cheap, store it, and sell it when it is expensive."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, RED
from rltrain.env import TensorEnv
from rltrain.envs.business.drawing import bar, board, curve, level, panel

DAY = 24  # hours


@dataclass
class BatteryState:
    """Charge, time and prices."""

    charge: Tensor  # (N,) MWh in the battery
    hour: Tensor  # (N,) int64, of the day, 0 to 23
    deviation: Tensor  # (N,) euros per MWh, the deviation from the usual price of the hour
    power: Tensor  # (N,) MW from the grid in the last hour, negative to it
    profit: Tensor  # (N,) euros since the start


class BatteryArbitrage(TensorEnv[BatteryState]):
    """Charge and discharge a battery hour by hour on the electricity market.

    Observation: (N, 5): the share of the capacity that is charged, the price in hundreds of euros per MWh, sine and
        cosine of the time of day, and the deviation from the usual price of the hour, in hundreds of euros per MWh.
    Action: (N, 1) in [-1, 1]: power as a share of ``max_power``, above 0 to charge and below 0 to discharge, limited by
        the charge and by the free capacity.
    Reward: what was sold minus what was bought and minus the battery's wear, in hundreds of euros.
    Episode end: none but the time limit, a week.
    Source: prices of a daily cycle and a mean-reverting deviation as in Lucia and Schwartz, "Electricity prices and
        power derivatives", 2002, model 1; the battery as in Sioshansi et al., "Estimating the value of electricity
        storage in PJM", 2009, with a cost of wear.
    Baseline: two thresholds: charges below the mean price minus half its deviation over the day, discharges above
        the mean plus as much.

    The daily cycle is the sum of a wave of a day with its top at 18 h and one of half a day with tops at 8 and 20 h.

    Args:
        capacity: Capacity of the battery, MWh.
        max_power: Largest power at the grid, MW.
        efficiency: Share of the energy that a full cycle returns.
        wear: Cost of a MWh that passes into or out of the battery, euros.
        mean_price: Mean price, euros per MWh.
        day_swing: Height of the daily wave, euros per MWh.
        half_day_swing: Height of the half-daily wave, euros per MWh.
        volatility: Deviation of the price's hourly shocks, euros per MWh.
        reversion: Share of the price's deviation that is lost in an hour.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``capacity`` or ``max_power`` not above 0, ``efficiency`` or
            ``reversion`` not in (0, 1], or ``wear``, a swing or ``volatility`` below 0.
    """

    max_episode_steps = 168
    render_fps = 6

    def __init__(
        self,
        *,
        capacity: float = 10.0,
        max_power: float = 2.5,
        efficiency: float = 0.88,
        wear: float = 3.0,
        mean_price: float = 60.0,
        day_swing: float = 15.0,
        half_day_swing: float = 12.0,
        volatility: float = 9.0,
        reversion: float = 0.15,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.capacity = self.constant("capacity", capacity, above=0)
        self.max_power = self.constant("max_power", max_power, above=0)
        self.efficiency = self.constant("efficiency", efficiency, above=0, at_most=1)
        self.wear = self.constant("wear", wear, at_least=0)
        self.mean_price = self.constant("mean_price", mean_price)
        self.day_swing = self.constant("day_swing", day_swing, at_least=0)
        self.half_day_swing = self.constant("half_day_swing", half_day_swing, at_least=0)
        self.volatility = self.constant("volatility", volatility, at_least=0)
        self.reversion = self.constant("reversion", reversion, above=0, at_most=1)
        angle = 2 * math.pi * torch.arange(DAY, device=self.device, dtype=self.dtype) / DAY
        self._wave = (angle - 2 * math.pi * 18 / DAY).cos()  # (24,)
        self._half_wave = (2 * angle - 4 * math.pi * 8 / DAY).cos()
        self._clock = torch.stack((angle.sin(), angle.cos()), 1)  # (24, 2)
        high = np.array([1, 20, 1, 1, 20], dtype=np.float32)
        low = np.array([0, -20, -1, -1, -20], dtype=np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)

    def reset(self, n: int, rng: torch.Generator | None) -> BatteryState:
        """Any hour and any charge; the price's deviation from its long-run distribution."""
        share = torch.rand(n, generator=rng, device=self.device, dtype=self.dtype)
        hour = torch.randint(DAY, (n,), generator=rng, device=self.device)
        shock = torch.randn(n, generator=rng, device=self.device, dtype=self.dtype)
        none = torch.zeros_like(share)
        return BatteryState(share * self.capacity, hour, shock * self._long_run_deviation(), none, none)

    def _long_run_deviation(self) -> Tensor:
        return self.volatility / (1 - (1 - self.reversion).square()).sqrt()

    def _cycle(self) -> Tensor:
        """(24,) euros per MWh: the price of every hour, without its deviation."""
        return self.mean_price + self.day_swing * self._wave + self.half_day_swing * self._half_wave

    def price(self, state: BatteryState) -> Tensor:
        """(N,) euros per MWh."""
        return self._cycle().index_select(0, state.hour) + state.deviation

    def step(
        self, state: BatteryState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[BatteryState, Tensor, Tensor]:
        """Trades for an hour at the observed price; half of the losses occur on the way in and half on the way out."""
        shock = torch.randn(len(action), generator=rng, device=self.device, dtype=self.dtype)
        one_way = self.efficiency.sqrt()
        wanted = action.squeeze(-1).to(self.dtype).clamp(-1, 1) * self.max_power
        room, stored = (self.capacity - state.charge) / one_way, state.charge * one_way
        power = torch.minimum(torch.maximum(wanted, -stored), room)
        into = torch.where(power > 0, power * one_way, power / one_way)
        gain = -power * self.price(state) - self.wear * into.abs()
        after = BatteryState(
            charge=torch.minimum((state.charge + into).clamp(min=0), self.capacity),
            hour=(state.hour + 1) % DAY,
            deviation=(1 - self.reversion) * state.deviation + self.volatility * shock,
            power=power,
            profit=state.profit + gain,
        )
        return after, gain / 100, torch.zeros_like(gain, dtype=torch.bool)

    def observe(self, state: BatteryState) -> Tensor:
        """(N, 5)."""
        clock = self._clock.index_select(0, state.hour)
        price = (self.price(state) / 100).clamp(-20, 20)
        deviation = (state.deviation / 100).clamp(-20, 20)
        return torch.stack((state.charge / self.capacity, price, *clock.unbind(1), deviation), 1)

    def info(self, state: BatteryState) -> dict[str, Tensor]:
        """The profit since the start, euros."""
        return {"profit": state.profit}

    def baseline(self, state: BatteryState) -> Tensor:
        """(N, 1): all power one way or the other, or none."""
        swings = (self.day_swing.square() + self.half_day_swing.square()) / 2
        off = self.price(state) - self.mean_price
        margin = (swings + self._long_run_deviation().square()).sqrt() / 2
        return ((off < -margin).to(self.dtype) - (off > margin).to(self.dtype)).unsqueeze(1)

    def render(self, state: BatteryState, index: int = 0) -> Tensor:
        """The day's prices, the battery and what it earned, (400, 600, 3) uint8."""
        hour, price, power, profit, charge = (
            float(x[index]) for x in (state.hour, self.price(state), state.power, state.profit, state.charge)
        )
        capacity = float(self.capacity)
        cycle = self._cycle().tolist()
        low, high = min(cycle) - 40, max(cycle) + 40
        canvas = board()
        panel(canvas, (10, 170, 590, 390), "price over the day", f"now {price:.0f} EUR/MWh")
        frame = (40.0, 200.0, 570.0, 355.0)
        curve(canvas, frame, cycle, low, high, GREY)
        for h in range(0, DAY, 6):
            canvas.text((40 + 530 * h / 23, 186), f"{h} h", GREY, size=12)
        x, y = 40 + 530 * hour / 23, level(frame, price, low, high)
        canvas.line([(x, 200), (x, 355)], "#a3abb860", width=1.5)
        canvas.circle((x, y), 7, RED if price > cycle[int(hour)] else GREEN)
        panel(canvas, (10, 10, 300, 160), "battery", f"{charge:.1f} of {capacity:g} MWh")
        bar(canvas, (30, 40, 250, 110), charge / capacity, BLUE)
        canvas.rectangle(252, 60, 262, 90, GREY, radius=2)
        way = "charging" if power > 0.005 else "discharging" if power < -0.005 else "resting"
        canvas.text((155, 24), f"{way} {abs(power):.1f} MW", ORANGE if power < 0 else INK, size=14)
        panel(canvas, (310, 10, 590, 160), "earned")
        canvas.text((450, 70), f"{profit:,.0f} EUR", GREEN if profit >= 0 else RED, size=36)
        return canvas.picture()
