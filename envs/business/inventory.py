"""Inventory: how much to order for a warehouse, and how much of it to send to each of its shops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, RED, SILVER, SKY, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.business.chance import count_cdf
from rltrain.envs.business.drawing import bar, board, panel

MOST_DAYS = 100.0  # of demand that are told apart


@dataclass
class InventoryState:
    """Stock at each place and on the way. The first of the 1 + R places is the warehouse, the others are shops."""

    stock: Tensor  # (N, 1 + R) units on hand
    pipeline: Tensor  # (N, P) units on the way, to one place after the other, a day's each, the next day's first
    sold: Tensor  # (N, R) units sold on the last day
    lost: Tensor  # (N, R) units of lost sales on the last day


class Inventory(TensorEnv[InventoryState]):
    """Keep R shops and the warehouse that supplies them in stock, at little cost.

    Observation: the stock on hand at the 1 + R places, then the stock on the way to each, the next day's arrivals
        first; all in days of the place's mean demand, at most 100.
    Action: (N, 1 + R): the order for the warehouse and for each shop, from -1 for nothing to 1 for
        ``order_limit`` days of its mean demand, rounded to whole units.
    Reward: minus the day's costs, in hundreds of euros: for stock left in the evening, and for lost sales.
    Episode end: none but the time limit.
    Source: the one-warehouse multi-retailer system with lost sales of Gijsbrechts, Boute, Van Mieghem and Zhang, "Can
        deep reinforcement learning improve inventory management?", 2022, section 5.3, without its emergency orders.
    Baseline: base-stock policy: shops order up to a quantile of the demand until the next order arrives, the
        warehouse up to one of the whole system's (Shang and Song, "Newsvendor bounds and heuristic for optimal
        policies in serial supply chains", 2003, equation 9).

    On each day deliveries arrive first. Then the warehouse orders from a supplier with unlimited stock, and sends what
    the shops order, shared out in proportion if its stock does not suffice. Then customers come; what they do not find
    is a lost sale. Demand is negative binomial. Shops differ in size: their mean demands rise evenly from half to one
    and a half times ``mean_demand``.

    Args:
        shops: Number of shops, R.
        mean_demand: Mean demand of the average shop, units a day.
        dispersion: Variance of a day's demand divided by its mean; 1 for Poisson.
        supplier_lead_time: Days from the supplier to the warehouse.
        shop_lead_time: Days from the warehouse to a shop; 0 for the same morning.
        order_limit: Largest order, days of the place's mean demand.
        warehouse_cost: Cost of keeping a unit in the warehouse overnight, euros.
        shop_cost: Cost of keeping a unit in a shop overnight, euros.
        lost_sale_cost: Cost of a sale that was lost, euros.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``dispersion`` or ``supplier_lead_time`` below 1, ``warehouse_cost``
            above ``shop_cost``, a cost or ``shop_lead_time`` below 0, or another not above 0.
    """

    max_episode_steps = 100
    render_fps = 4

    def __init__(
        self,
        *,
        shops: int = 3,
        mean_demand: float = 5.0,
        dispersion: float = 2.0,
        supplier_lead_time: int = 4,
        shop_lead_time: int = 2,
        order_limit: float = 3.0,
        warehouse_cost: float = 0.5,
        shop_cost: float = 1.0,
        lost_sale_cost: float = 9.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.shops = self.whole("shops", shops, at_least=1)
        self.mean_demand = self.constant("mean_demand", mean_demand, above=0)
        self.dispersion = self.constant("dispersion", dispersion, at_least=1)
        self.supplier_lead_time = self.whole("supplier_lead_time", supplier_lead_time, at_least=1)
        self.shop_lead_time = self.whole("shop_lead_time", shop_lead_time, at_least=0)
        self.order_limit = self.constant("order_limit", order_limit, above=0)
        self.shop_cost = self.constant("shop_cost", shop_cost, at_least=0)
        self.warehouse_cost = self.constant("warehouse_cost", warehouse_cost, at_least=0, at_most=shop_cost)
        self.lost_sale_cost = self.constant("lost_sale_cost", lost_sale_cost, above=0)

        sizes = torch.linspace(0.5, 1.5, shops) if shops > 1 else torch.ones(1)
        self._sizes = torch.cat((sizes.sum(0, keepdim=True), sizes)).to(self.device, self.dtype)
        leads = [supplier_lead_time] + [shop_lead_time] * shops
        # A place's queue are its columns of the pipeline and, behind them, what is sent there now, which is put to the
        # right of all of them. The first of a queue arrives, the others are the pipeline's new columns.
        column = iter(range(sum(leads)))
        queues = [[*islice(column, lead), sum(leads) + place] for place, lead in enumerate(leads)]
        self._arriving = torch.tensor([queue[0] for queue in queues], device=self.device)
        self._waiting = torch.tensor([i for queue in queues for i in queue[1:]], device=self.device)
        self._to = torch.tensor([place for place, lead in enumerate(leads) for _ in range(lead)], device=self.device)
        covered = [supplier_lead_time + shop_lead_time + 1] + [shop_lead_time + 1] * shops
        self._covered = torch.tensor(covered, device=self.device)  # (1 + R,) days for which an order has to last
        most = [1.5 * mean_demand, shops * mean_demand * covered[0]]  # of a shop in a day; of all, until an arrival
        self._terms = [math.ceil(mean + 10 * math.sqrt(mean * dispersion) + 10 * dispersion) for mean in most]

        self.observation_space = spaces.Box(0.0, MOST_DAYS, (1 + shops + sum(leads),), dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1 + shops,), dtype=np.float32)

    def reset(self, n: int, rng: torch.Generator | None) -> InventoryState:
        """One to three days of demand on hand, and one for each day on the way."""
        means = self.mean_demand * self._sizes
        u = torch.rand(n, 1 + self.shops, generator=rng, device=self.device, dtype=self.dtype)
        pipeline = means[self._to].round().expand(n, -1)
        none = torch.zeros(n, self.shops, device=self.device, dtype=self.dtype)
        return InventoryState((means * (1 + 2 * u)).round(), pipeline, none, none)

    def step(
        self, state: InventoryState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[InventoryState, Tensor, Tensor]:
        """A day."""
        means = self.mean_demand * self._sizes
        order = ((action.to(self.dtype).clamp(-1, 1) + 1) * (means * self.order_limit / 2)).round()
        for_warehouse, wanted = order[:, :1], order[:, 1:]
        at_hand = state.stock[:, :1] + state.pipeline[:, :1]
        total = wanted.sum(1, keepdim=True)
        sent = torch.minimum(wanted, (wanted * at_hand / total.clamp(min=1)).floor())
        sent_all = sent.sum(1, keepdim=True)

        under_way = torch.cat((state.pipeline, for_warehouse, sent), dim=1)
        stock = state.stock + under_way.index_select(1, self._arriving)

        u = torch.rand(self.shops, len(order), generator=rng, device=self.device, dtype=self.dtype)
        cdf = count_cdf(means[1:], self._terms[0], self.dispersion)
        demand = torch.searchsorted(cdf, u).t().to(self.dtype)
        sold = torch.minimum(stock[:, 1:], demand)
        lost = demand - sold
        stock = stock - torch.cat((sent_all, sold), 1)

        cost = self.warehouse_cost * stock[:, 0] + self.shop_cost * stock[:, 1:].sum(1)
        cost = torch.addcmul(cost, lost.sum(1), self.lost_sale_cost)
        after = InventoryState(stock, under_way.index_select(1, self._waiting), sold, lost)
        return after, cost * -0.01, torch.zeros_like(cost, dtype=torch.bool)

    def observe(self, state: InventoryState) -> Tensor:
        """Days of supply on hand and on the way: (N, 1 + R + sum of lead times)."""
        means = self.mean_demand * self._sizes
        days = torch.cat((state.stock, state.pipeline), dim=1) / torch.cat((means, means[self._to]))
        return days.clamp(max=MOST_DAYS)

    def base_stock(self) -> Tensor:
        """(1 + R,) units up to which the baseline orders: for the warehouse, of the whole system; for the shops.

        The demand until the next day's order arrives decides.
        """
        cdf = count_cdf(self.mean_demand * self._sizes * self._covered, self._terms[1], self.dispersion)
        keeping = torch.stack((self.shop_cost, self.warehouse_cost))
        ratio = self.lost_sale_cost / (self.lost_sale_cost + keeping)  # of the newsvendor
        low, high = torch.searchsorted(cdf, ratio.expand(1 + self.shops, 2).contiguous()).to(self.dtype).unbind(1)
        return torch.cat((((low[:1] + high[:1]) / 2).round(), low[1:]))

    def baseline(self, state: InventoryState) -> Tensor:
        """Orders that raise the inventory position, on hand and on the way, to the base-stock level."""
        position = state.stock.index_add(1, self._to, state.pipeline)
        position = torch.cat((position.sum(1, keepdim=True), position[:, 1:]), dim=1)
        order = (self.base_stock() - position).clamp(min=0)
        return (order * 2 / (self.order_limit * self.mean_demand * self._sizes) - 1).clamp(max=1)

    def render(self, state: InventoryState, index: int = 0) -> Tensor:
        """Belts of deliveries lead to the warehouse and from there to the shops, (400, 600, 3) uint8."""
        stock, sold, lost = (field[index].tolist() for field in (state.stock, state.sold, state.lost))
        column = iter(state.pipeline[index].tolist())
        full = 8 * float(self.mean_demand)  # stock that fills the bar of an average shop
        canvas = board()

        canvas.text((74, 258), "from the supplier", GREY, size=12)
        self._belt(canvas, 10, 138, 220, list(islice(column, self.supplier_lead_time)))
        panel(canvas, (140, 90, 240, 330), "warehouse")
        bar(canvas, (165, 150, 215, 300), stock[0] / (full * self.shops / 2), BLUE, upright=True)
        canvas.text((190, 128), f"{stock[0]:.0f}", size=22)
        canvas.text((190, 106), "in stock", GREY, size=12)
        height = 392 / self.shops
        for shop in range(self.shops):
            top = 396 - shop * height
            middle = top - height / 2
            canvas.line([(241, 210), (258, middle)], GREY, width=2)
            self._belt(canvas, 258, 258 + 32 * self.shop_lead_time, middle, list(islice(column, self.shop_lead_time)))
            left = 264 + 32 * self.shop_lead_time
            mean = float(self.mean_demand * self._sizes[1 + shop])
            panel(canvas, (left, top - height + 4, 594, top - 4), f"shop {shop + 1}", f"sells about {mean:.3g} a day")
            half = min(14.0, height / 7)
            bar(canvas, (left + 12, middle - half, 546, middle + half), stock[1 + shop] / full, BLUE)
            canvas.text((584, middle), f"{stock[1 + shop]:.0f}", size=20, anchor="rm")
            y = middle - half - min(18, height / 6)
            canvas.text((left + 12, y), f"{sold[shop]:.0f} sold", GREEN, size=14, anchor="lm")
            if lost[shop] > 0:
                canvas.text((left + 82, y), f"{lost[shop]:.0f} lost", RED, size=14, anchor="lm")
        return canvas.picture()

    @staticmethod
    def _belt(canvas: Canvas, left: float, right: float, y: float, units: list[float]) -> None:
        """What is on the way, a tile a day, the next day's on the right."""
        room = (right - left) / max(len(units), 1)
        canvas.line([(left, y - 15), (right, y - 15)], GREY, width=2)
        for day, count in enumerate(reversed(units)):
            x = left + (day + 0.5) * room
            canvas.rectangle(x - 0.45 * room, y - 13, x + 0.45 * room, y + 13, SKY if count else SILVER, radius=3)
            if count:
                canvas.text((x, y), f"{count:.0f}", INK, size=min(15, 0.5 * room))
