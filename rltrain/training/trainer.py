"""The training loop: collect, learn, and at intervals log, evaluate, save and film."""

from __future__ import annotations

import time
import warnings

from rltrain.agent import Metrics, next_state
from rltrain.rng import turns
from rltrain.training.callback_list import CallbackList
from rltrain.training.milestones import Milestones
from rltrain.training.saving import notice_move
from rltrain.training.watch import Given


class Trainer(Milestones):
    """Trains an agent in a vectorised environment.

    All ranks take the same decisions: these depend only on all-reduced numbers, on flags that the ranks exchange, and
    on values that are the same on every rank.

    Args:
        setup: The setup of the run.
        folder: The folder for checkpoints and videos.
        interrupted: A function that is called after each update and returns whether to save and stop.
    """

    @staticmethod
    def check_callbacks(algo: str, callbacks: CallbackList) -> None:
        """Refuses callbacks that this kind of trainer does not support; this one supports all."""

    def run(self) -> str:
        """Trains until there is a reason to stop, and returns the reason."""
        self.begin()
        while (reason := self.reason_to_stop()) is None:
            self.agent.progress_remaining = self.progress_remaining
            self.collect()
            self.callbacks.rollout(self)
            self.learned(self.agent.learn())
        self.end(reason)
        return reason

    def begin(self) -> None:
        """Starts the clock; catches up on an evaluation that a signal ended."""
        self.clock = time.perf_counter() - self.seconds
        self.started_at = self.global_step, self.seconds
        if self.evaluation_missed:
            with self.paused("eval"):
                self.evaluate()
            if not self.evaluation_missed and self.global_step >= self.total_timesteps:
                self.saved_step = None  # the last checkpoint is written again, with what the evaluation came to

    def learned(self, metrics: Metrics) -> None:
        """Does everything that follows the learning of the agent."""
        self.metrics.add(metrics)
        self.updated(metrics)

    def updated(self, metrics: Metrics) -> None:
        """Does everything that is due between two updates."""
        self.hear_of_saving()
        self.callbacks.update(self, metrics)
        self.watch.update(metrics, self.given(), self.span)
        self.tick()
        if self.n_iterations % self.log_interval == 0:
            self.log()
            notice_move(self)
        if self.due(self.config.eval_freq):
            with self.paused("eval"):
                self.evaluate()
        wanted = bool(self.callbacks) and self.ranks.any(self.save_wanted)[0]
        if self.due(self.config.save_freq) or wanted:
            self.save_wanted = False
            self.save()
        if self.due(self.config.video_freq) and self.ranks.first:
            with self.paused("video"):
                self.film()

    def given(self) -> Given | None:
        """What the environments gave since the last update, for the watch."""
        received = self.received() if self.received else None
        return Given(self.episodes.returns, received, self.choices.missing)

    def end(self, reason: str) -> None:
        """Logs the metrics since the last log point, saves, and waits until the checkpoint is there."""
        self.tick()
        if reason != "interrupted" and self.n_iterations % self.log_interval:
            self.log()
        for name in self.infos.never_seen() if self.infos.names else ():
            warnings.warn(f"--log-info {name}: no environment gave a number of this name.", stacklevel=2)
        self.save(last=True)
        self.hear_of_saving(wait=True, last=True)

    def collect(self) -> None:
        """Steps the environments ``agent.horizon`` times."""
        initial = self.agent.actor.initial_state(self.env.num_envs)
        for taken in range(1, self.agent.horizon + 1):
            self.choices.note(self.obs)
            out = self.agent.act(self.obs, self.state)
            step = self.env.step(out.action)
            self.agent.record(out, step)
            self.episodes.note(step)
            if self.infos.names:
                self.infos.note(step.info)
            self.obs, self.state = step.obs, next_state(out, step, initial)
            turns.pass_on()
            if time.monotonic() >= self.show_at:
                self.show(self.global_step + taken * self.env.num_envs * self.ranks.world_size)
        self.episodes.merge()
        self.collected()

    def collected(self) -> None:
        """Counts the collected steps."""
        self.global_step += self.steps_at_once
        self.n_iterations += 1

    def reason_to_stop(self) -> str | None:
        """Why it ends: one of the words in :class:`~rltrain.training.session.RunResult`; None if it goes on."""
        spent = self.setup.meter.is_spent(self.config.max_cost)
        interrupted, stopped, spent = self.ranks.any(self.interrupted(), self.stopped, spent)
        if interrupted:
            return "interrupted"
        if stopped:
            return "callback"
        if spent:
            return "max_cost"
        target = self.config.stop_at_reward
        window_full = self.latest.get("rollout/episodes", 0) >= self.config.stats_window_size
        if target is not None and window_full and self.latest["rollout/ep_rew_mean"] >= target:
            return "stop_at_reward"
        return "total_timesteps" if self.global_step >= self.total_timesteps else None
