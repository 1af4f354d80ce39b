"""Autoscaling: how many servers to run while requests come and go and new servers take time to start."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, RED, SKY
from rltrain.env import TensorEnv
from rltrain.envs.business.drawing import bar, board, curve, level, panel

DAY = 288  # steps of five minutes


@dataclass
class AutoscalingState:
    """Servers, queue and demand."""

    running: Tensor  # (N,) servers that work
    booting: Tensor  # (N, B) servers that are starting, those that come up next first
    queue: Tensor  # (N,) thousands of requests that wait
    clock: Tensor  # (N,) int64, step of the day, 0 to 287
    burst: Tensor  # (N,) factor of the demand beyond the time of day, minus 1, not below 0
    arrived: Tensor  # (N,) thousands of requests that came in the last step
    served: Tensor  # (N,) thousands of requests that were served in it
    dropped: Tensor  # (N,) thousands of requests that were turned away in it


class Autoscaling(TensorEnv[AutoscalingState]):
    """Scale a cluster of servers to its requests, in steps of five minutes.

    Observation: (N, 7 + B): servers running and, for each step until they are up, servers booting, divided by
        ``max_servers``; the queue divided by its limit; requests arrived and requests served in the last step, divided
        by what ``max_servers`` can serve; the share of time that servers were busy; sine and cosine of the time of day.
    Action: 0 stops ``stride`` servers at once, 1 changes nothing, 2 starts ``stride`` servers; in general 2 k + 1
        actions from k strides fewer to k more.
    Reward: minus the cost in euros: of servers, running or booting; of waiting; and of requests turned away.
    Episode end: none but the time limit, a day.
    Source: a fluid queue (Newell, "Applications of queueing theory", 1982, chapter 2) with finite room in discrete
        time; the delay of new servers as in Gandhi et al., "AutoScale", 2012.
    Baseline: target tracking: as many servers as keep the last step's requests and half of the queue at
        ``target`` of their capacity.

    Requests arrive at a rate that follows the time of day, with random bursts that fade, and with noise that has the
    variance of a Poisson process of ``grain`` requests at a time.

    Args:
        max_servers: Most servers, running and booting.
        stride: Number of servers in one stride.
        reach: How many strides up or down an action can go, k.
        boot_steps: Steps until a new server works, B.
        server_rate: Requests that a server serves in a step, thousands.
        server_cost: Cost of a server, euros a step.
        wait_cost: Cost of waiting, euros for a thousand requests and a step.
        drop_cost: Cost of requests turned away, euros a thousand.
        queue_limit: Requests that can wait, thousands.
        base_load: Mean requests in a step, as a share of what ``max_servers`` can serve.
        day_swing: Height of the daily wave as a share of the mean; its peak is at 14 h.
        burst_chance: Probability that a burst begins in a step.
        burst_size: Mean height of a burst as a share of the load at that time of day.
        burst_fade: Share of a burst that is over after each step.
        grain: Requests that come together, thousands.
        target: Share of the capacity that the baseline aims at.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``max_servers``, ``stride``, ``reach`` or ``boot_steps`` below 1; a
            probability or share outside [0, 1]; a cost below 0; or another not above 0.
    """

    max_episode_steps = DAY
    render_fps = 10

    def __init__(
        self,
        *,
        max_servers: int = 40,
        stride: int = 2,
        reach: int = 1,
        boot_steps: int = 3,
        server_rate: float = 1.0,
        server_cost: float = 0.1,
        wait_cost: float = 0.1,
        drop_cost: float = 1.0,
        queue_limit: float = 20.0,
        base_load: float = 0.4,
        day_swing: float = 0.6,
        burst_chance: float = 0.01,
        burst_size: float = 0.5,
        burst_fade: float = 0.1,
        grain: float = 0.05,
        target: float = 0.75,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.max_servers = self.whole("max_servers", max_servers, at_least=1)
        self.stride = self.whole("stride", stride, at_least=1)
        self.reach = self.whole("reach", reach, at_least=1)
        self.boot_steps = self.whole("boot_steps", boot_steps, at_least=1)
        self.server_rate = self.constant("server_rate", server_rate, above=0)
        self.server_cost = self.constant("server_cost", server_cost, at_least=0)
        self.wait_cost = self.constant("wait_cost", wait_cost, at_least=0)
        self.drop_cost = self.constant("drop_cost", drop_cost, at_least=0)
        self.queue_limit = self.constant("queue_limit", queue_limit, above=0)
        self.base_load = self.constant("base_load", base_load, above=0)
        self.day_swing = self.constant("day_swing", day_swing, at_least=0, at_most=1)
        self.burst_chance = self.constant("burst_chance", burst_chance, at_least=0, at_most=1)
        self.burst_size = self.constant("burst_size", burst_size, at_least=0)
        self.burst_fade = self.constant("burst_fade", burst_fade, at_least=0, at_most=1)
        self.grain = self.constant("grain", grain, at_least=0)
        self.target = self.constant("target", target, above=0, at_most=1)
        angle = 2 * math.pi * torch.arange(DAY, device=self.device, dtype=self.dtype) / DAY
        self._clock = torch.stack((angle.sin(), angle.cos()), 1)  # (288, 2)
        self._wave = (angle - 2 * math.pi * 14 / 24).cos()  # (288,)
        high = np.array([1] * (1 + boot_steps) + [1, 10, 1, 1, 1, 1], dtype=np.float32)
        low = np.array([0] * (1 + boot_steps) + [0, 0, 0, 0, -1, -1], dtype=np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Discrete(2 * reach + 1)

    def load(self, clock: Tensor) -> Tensor:
        """Mean requests (N,) in a step at the time of day without bursts, thousands."""
        wave = 1 + self.day_swing * self._wave.index_select(0, clock)
        return self.base_load * self.max_servers * self.server_rate * wave

    def reset(self, n: int, rng: torch.Generator | None) -> AutoscalingState:
        """Any time of day, no burst, no queue, and as many servers as the load needs at the baseline's target."""
        clock = torch.randint(DAY, (n,), generator=rng, device=self.device)
        load = self.load(clock)
        none = torch.zeros_like(load)
        running = (load / (self.target * self.server_rate)).ceil().clamp(1, self.max_servers)
        booting = torch.zeros(n, self.boot_steps, device=self.device, dtype=self.dtype)
        return AutoscalingState(running, booting, none, clock, none, load, load, none)

    def step(
        self, state: AutoscalingState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[AutoscalingState, Tensor, Tensor]:
        """Servers stop, start and come up; then requests come, are served, wait or are turned away."""
        n = len(action)
        begins, size = torch.rand(2, n, generator=rng, device=self.device, dtype=self.dtype).unbind()
        noise = torch.randn(n, generator=rng, device=self.device, dtype=self.dtype)

        change = (action - self.reach).to(self.dtype) * self.stride
        running = (state.running + state.booting[:, 0] + change.clamp(max=0)).clamp(min=1)
        coming = state.booting[:, 1:]
        room = (self.max_servers - running - coming.sum(1)).clamp(min=0)
        started = torch.minimum(change.clamp(min=0), room)
        booting = torch.cat((coming, started.unsqueeze(1)), 1)

        born = torch.where(begins < self.burst_chance, -self.burst_size * torch.log1p(-size), 0.0)  # exponential
        burst = (1 - self.burst_fade) * state.burst + born
        mean = self.load(state.clock) * (1 + burst)
        arrived = (mean + (mean * self.grain).sqrt() * noise).clamp(min=0)
        waiting = state.queue + arrived
        served = torch.minimum(waiting, running * self.server_rate)
        left = waiting - served
        queue = torch.minimum(left, self.queue_limit)
        dropped = left - queue

        cost = self.server_cost * (running + booting.sum(1)) + self.wait_cost * queue + self.drop_cost * dropped
        clock = (state.clock + 1) % DAY
        after = AutoscalingState(running, booting, queue, clock, burst, arrived, served, dropped)
        return after, -cost, torch.zeros_like(cost, dtype=torch.bool)

    def observe(self, state: AutoscalingState) -> Tensor:
        """(N, 7 + B)."""
        most = self.max_servers * self.server_rate
        parts = torch.stack(
            (
                state.queue / self.queue_limit,
                (state.arrived / most).clamp(max=10),
                (state.served / most).clamp(max=1),
                (state.served / (state.running * self.server_rate)).clamp(max=1),
            ),
            1,
        )
        servers = torch.cat((state.running.unsqueeze(1), state.booting), 1) / self.max_servers
        return torch.cat((servers, parts, self._clock.index_select(0, state.clock)), 1)

    def info(self, state: AutoscalingState) -> dict[str, Tensor]:
        """Of the last step: servers running and booting, thousands of requests turned away."""
        return {"servers": state.running + state.booting.sum(1), "dropped": state.dropped}

    def baseline(self, state: AutoscalingState) -> Tensor:
        """(N,): towards the target, as far as one action goes."""
        needed = (state.arrived + state.queue / 2) / (self.target * self.server_rate)
        there = state.running + state.booting.sum(1)
        strides = ((needed - there) / self.stride).round().clamp(-self.reach, self.reach)
        return strides.to(torch.int64) + self.reach

    def render(self, state: AutoscalingState, index: int = 0) -> Tensor:
        """The day's load, the servers and the queue, (400, 600, 3) uint8."""
        running, queue, arrived, served, dropped = (
            float(x[index]) for x in (state.running, state.queue, state.arrived, state.served, state.dropped)
        )
        booting, clock = float(state.booting[index].sum()), int(state.clock[index])
        rate, limit = float(self.server_rate), float(self.queue_limit)
        most = self.max_servers * rate
        canvas = board()
        hour = f"{clock * 24 // DAY:02d}:{clock * 1440 // DAY % 60:02d}"
        panel(canvas, (10, 190, 590, 390), "requests in five minutes, thousands", hour)
        frame = (30.0, 205.0, 570.0, 355.0)
        usual = self.load(torch.arange(0, DAY, 4, device=self.device)).tolist()
        curve(canvas, frame, usual, 0, most, GREY)
        x = 30 + 540 * clock / DAY
        capacity = level(frame, running * rate, 0, most)
        canvas.rectangle(x - 5, 205, x + 5, capacity, "#2f669060", radius=2)
        canvas.circle((x, level(frame, arrived, 0, most)), 7, RED if arrived > running * rate else ORANGE)
        panel(canvas, (10, 10, 300, 180), "servers", f"{running:.0f} running, {booting:.0f} booting")
        bar(canvas, (30, 90, 280, 130), (running + booting) / self.max_servers, SKY)
        if running:
            canvas.rectangle(30, 90, 30 + 250 * running / self.max_servers, 130, BLUE, radius=3)
        busy = served / max(running * rate, 1e-9)
        canvas.text((30, 64), "busy", GREY, size=13, anchor="lm")
        canvas.text((280, 64), f"{100 * busy:.0f}%", INK, size=14, anchor="rm")
        bar(canvas, (30, 30, 280, 50), busy, GREEN if busy < 0.95 else RED)
        panel(canvas, (310, 10, 590, 180), "queue, thousands", f"{queue:.1f} of {limit:g}")
        bar(canvas, (330, 90, 570, 130), queue / limit, ORANGE)
        canvas.text((330, 50), "turned away", GREY, size=13, anchor="lm")
        canvas.text((570, 50), f"{dropped:.1f}", RED if dropped > 0 else INK, size=22, anchor="rm")
        return canvas.picture()
