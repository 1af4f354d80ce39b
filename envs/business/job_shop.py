"""Job shop: choose which job's next operation to schedule, so that all jobs are done soon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, RED, SILVER, SKY, YELLOW
from rltrain.env import TensorEnv
from rltrain.envs.business.drawing import board, panel

COLORS = (BLUE, ORANGE, GREEN, YELLOW, RED, SKY, "#7b5ea7", "#3d9a9a", "#b8860b", "#8a8f99")


@dataclass
class JobShopState:
    """A plant with J jobs of M operations, each on another of M machines, and the schedule so far."""

    machine: Tensor  # (N, J, M) int64, on which machine each operation is, in the job's order
    duration: Tensor  # (N, J, M) minutes
    finish: Tensor  # (N, J, M) minutes from the start at which it ends, 0 while it is not scheduled
    done: Tensor  # (N, J) int64, operations that are scheduled
    job_free: Tensor  # (N, J) minutes, when the job's last scheduled operation ends
    work_left: Tensor  # (N, J) minutes that the job's unscheduled operations take
    machine_free: Tensor  # (N, M) minutes, when the machine's last scheduled operation ends


class JobShop(TensorEnv[JobShopState]):
    """Schedule J jobs on M machines, operation by operation, so that all are done as early as possible.

    Observation: (N, 6 J + M), all times in ``longest`` M / 2 minutes: for every job the share of its operations that
        are scheduled, when it is free, the work that is left, the duration of its next operation, when the machine
        for that is free, and when that could start; then when every machine is free. Times are from the moment at
        which the first machine gets free; of a job that is done, the last four are 0.
    Action: the job whose next operation is scheduled, as early as the job and the machine allow after all that is
        scheduled on that machine. The mask forbids jobs that are done; to choose one changes nothing.
    Reward: how much the lower bound of the makespan falls, in hundreds of minutes: never above 0. The bound is the
        time at which the last job would end if no machine were ever busy; at the end it is the makespan.
    Episode end: all operations are scheduled.
    Source: instances as in Taillard, "Benchmarks for basic scheduling problems", 1993, section 5; the decisions and
        the reward after Zhang et al., "Learning to dispatch for job shop scheduling via deep reinforcement learning",
        2020, arXiv:2010.12621, equation 3.
    Baseline: most work remaining first (MWKR), the best of the common priority rules on such instances (Haupt, "A
        survey of priority rule-based scheduling", 1989).

    The return is minus the delay: the makespan's excess over the longest job's work.

    Args:
        jobs: Number of jobs, J.
        machines: Number of machines, M.
        longest: Longest duration of an operation, minutes; durations are uniform whole numbers from 1.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``jobs`` or ``machines`` is not from 2 to 50, or ``longest`` below 1.
    """

    max_episode_steps = 36
    reset_interval = 16
    render_fps = 4

    def __init__(self, *, jobs: int = 6, machines: int = 6, longest: int = 99, **base: Any) -> None:
        super().__init__(**base)
        self.jobs = self.whole("jobs", jobs, at_least=2, at_most=50)
        self.machines = self.whole("machines", machines, at_least=2, at_most=50)
        self.longest = self.whole("longest", longest, at_least=1)
        self.max_episode_steps = jobs * machines  # type: ignore[misc]  # of this size
        self.scale = longest * machines / 2  # minutes, about a job's work
        size = 6 * jobs + machines
        self.observation_space = spaces.Box(0.0, 4.0 * jobs, (size,), dtype=np.float32)
        self.action_space = spaces.Discrete(jobs)

    def reset(self, n: int, rng: torch.Generator | None) -> JobShopState:
        """Every job visits every machine once, in random order."""
        shape = (n, self.jobs, self.machines)
        order = torch.rand(shape, generator=rng, device=self.device)
        duration = torch.randint(1, self.longest + 1, shape, generator=rng, device=self.device).to(self.dtype)
        none = torch.zeros(n, self.jobs, device=self.device, dtype=self.dtype)
        return JobShopState(
            machine=order.argsort(-1),
            duration=duration,
            finish=torch.zeros_like(duration),
            done=torch.zeros(n, self.jobs, dtype=torch.int64, device=self.device),
            job_free=none,
            work_left=duration.sum(-1),
            machine_free=torch.zeros(n, self.machines, device=self.device, dtype=self.dtype),
        )

    def step(
        self, state: JobShopState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[JobShopState, Tensor, Tensor]:
        """Schedules the next operation of the chosen job."""
        job = action.unsqueeze(1)
        done = state.done.gather(1, job)
        open_ = done < self.machines
        index = (job * self.machines + done.clamp(max=self.machines - 1)).view(-1, 1)  # of the operation, laid out flat
        machine = state.machine.flatten(1).gather(1, index)
        duration = state.duration.flatten(1).gather(1, index)
        job_free, machine_free = state.job_free.gather(1, job), state.machine_free.gather(1, machine)
        work_left = state.work_left.gather(1, job)
        finish = torch.maximum(job_free, machine_free) + duration
        finish_before = state.finish.flatten(1).gather(1, index)
        after = JobShopState(
            machine=state.machine,
            duration=state.duration,
            finish=state.finish.flatten(1)
            .scatter(1, index, torch.where(open_, finish, finish_before))
            .view_as(state.finish),
            done=state.done.scatter(1, job, done + open_),
            job_free=state.job_free.scatter(1, job, torch.where(open_, finish, job_free)),
            work_left=state.work_left.scatter(1, job, work_left - duration * open_),
            machine_free=state.machine_free.scatter(1, machine, torch.where(open_, finish, machine_free)),
        )
        reward = (self._bound(state) - self._bound(after)) / 100
        return after, reward, (after.done == self.machines).all(1)

    @staticmethod
    def _bound(state: JobShopState) -> Tensor:
        """(N,) minutes before which the last job cannot end."""
        return (state.job_free + state.work_left).amax(1)

    def action_mask(self, state: JobShopState) -> Tensor:
        """(N, J) bool: jobs that are not done."""
        return state.done < self.machines

    def observe(self, state: JobShopState) -> Tensor:
        """(N, 6 J + M)."""
        is_open = self.action_mask(state)
        coming = state.done.clamp(max=self.machines - 1).unsqueeze(-1)
        machine = state.machine.gather(2, coming).squeeze(-1)
        duration = state.duration.gather(2, coming).squeeze(-1)
        now = state.machine_free.amin(1, keepdim=True)
        job_free = (state.job_free - now).clamp(min=0)
        machine_free = state.machine_free - now
        there_free = machine_free.gather(1, machine)
        times = torch.stack((state.work_left, duration, there_free, torch.maximum(job_free, there_free)))
        parts = (
            state.done.to(self.dtype) / self.machines,
            job_free / self.scale,
            *(times * is_open / self.scale).unbind(),
            machine_free / self.scale,
        )
        return torch.cat(parts, 1)

    def info(self, state: JobShopState) -> dict[str, Tensor]:
        """The end of the last scheduled operation, minutes; at the end of the episode this is the makespan."""
        return {"makespan": state.machine_free.amax(1)}

    def baseline(self, state: JobShopState) -> Tensor:
        """(N,): the job with most work left."""
        return state.work_left.argmax(1)

    def render(self, state: JobShopState, index: int = 0) -> Tensor:
        """The schedule so far as a Gantt chart, and what is left of each job, (400, 600, 3) uint8."""
        machine, duration, finish = (x[index].tolist() for x in (state.machine, state.duration, state.finish))
        left = state.work_left[index].tolist()
        bound = float(self._bound(state)[index])
        horizon = max(1.25 * bound, 1.0)
        canvas = board()
        panel(canvas, (10, 130, 590, 390), "machines", f"ends at {bound:.0f} min or later")
        rows = 210 / self.machines
        for m in range(self.machines):
            y = 140 + rows * (self.machines - 1 - m)
            canvas.text((34, y + rows / 2), f"{m + 1}", GREY, size=13)
            canvas.line([(50, y), (580, y)], SILVER, width=1)
        for job in range(self.jobs):
            color = COLORS[job % len(COLORS)]
            for m, minutes, end in zip(machine[job], duration[job], finish[job], strict=True):
                if end > 0:
                    y = 140 + rows * (self.machines - 1 - m)
                    x0, x1 = (50 + 530 * t / horizon for t in (end - minutes, end))
                    canvas.rectangle(x0, y + 2, max(x1 - 1, x0 + 1), y + rows - 2, color, radius=2)
        x = 50 + 530 * bound / horizon
        canvas.line([(x, 138), (x, 360)], INK, width=1.5)
        panel(canvas, (10, 10, 590, 122), "work left of each job", "min")
        width = 560 / self.jobs
        for job in range(self.jobs):
            x = 20 + width * job
            tall = 55 * left[job] / max(self.scale * 2, 1)
            canvas.rectangle(x + 0.2 * width, 32, x + 0.8 * width, 32 + max(tall, 1), COLORS[job % len(COLORS)])
            canvas.text((x + width / 2, 21), f"{left[job]:.0f}" if left[job] else "done", INK, size=12)
        return canvas.picture()
