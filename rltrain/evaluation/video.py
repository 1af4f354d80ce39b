"""Episodes as films."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rltrain.agent import Actor
from rltrain.evaluation.episodes import Choose, play
from rltrain.evaluation.frames import Picture, Reel, captioned, draw, enlarged, warn_of_one_colour
from rltrain.evaluation.limits import Limits
from rltrain.evaluation.video_files import MAX_GIF_FPS, check_suffix, write_video
from rltrain.rng import derive_seed
from rltrain.vec import VecEnv

MAX_STEPS = 2_000
"""Where a film leaves an episode if neither its end nor a time limit does."""

MOST_FPS = {".gif": MAX_GIF_FPS, ".mp4": 60}
"""The most pictures per second that are drawn, by the ending of the file."""

NOTHING: Picture = np.empty((0, 0, 3), np.uint8)
"""The picture of a shot whose own is kept elsewhere."""


@dataclass(frozen=True)
class Shot:
    """A state of an episode, drawn.

    Attributes:
        picture: (H, W, 3) uint8.
        episode: The number of the episode, from 0.
        step: Steps since its start.
        total: Rewards since its start.
        ended: Whether the episode is over.
    """

    picture: Picture
    episode: int
    step: int
    total: float
    ended: bool


@torch.no_grad()
def record(
    vec: VecEnv,
    policy: Actor | Choose,
    *,
    seed: int,
    episodes: int = 1,
    max_steps: int | None = None,
    every: int = 1,
    deterministic: bool = True,
    rng: torch.Generator | None = None,
    limits: Limits | None = None,
) -> Iterator[Shot]:
    """Plays episodes and draws their states, the first and the last of each included.

    Args:
        vec: One environment, made with ``render``: it is not reset when the episode ends, so that its last state can
            be drawn.
        policy: The policy that acts: the actor of an agent, or a function of observations (1, *O).
        seed: Seed of the first episode, from which those of further ones follow.
        episodes: Number of episodes.
        max_steps: Steps after which an episode is left even if it goes on.
        every: Steps between two pictures.
        deterministic: Whether to take the most likely action rather than a sample.
        rng: Generator for the samples.
        limits: How long it may last, in seconds.

    Raises:
        ConfigError: The environment cannot be drawn.
        Stopped: A signal asked for it.
    """
    limits = limits or Limits(seconds=None, what="film")
    limits.begin()
    most = steps_of_film(vec, max_steps)
    for episode in range(episodes):
        obs = vec.reset(seed if episode == 0 else derive_seed(seed, "episode", episode))
        yield Shot(draw(vec), episode, 0, 0.0, False)
        for number, step in enumerate(play(policy, vec, obs, deterministic=deterministic, rng=rng), 1):
            ended = bool(step.terminated | step.truncated)
            time_is_up = limits.over()
            last = ended or number >= most or time_is_up
            if last or number % every == 0:
                yield Shot(draw(vec), episode, number, float(step.episode_return), ended)
            limits.tell(f"episode {episode + 1} of {episodes}, step {number:,} of at most {most:,}")
            if last:
                break
        if time_is_up:
            return


def steps_of_film(vec: VecEnv, max_steps: int | None) -> int:
    """The most steps of an episode that a film shows."""
    limit = getattr(vec, "max_episode_steps", None)
    return min((n for n in (max_steps, limit) if n is not None), default=MAX_STEPS)


def record_episode(vec: VecEnv, policy: Actor | Choose, *, seed: int, **options: Any) -> list[Picture]:
    """The pictures (H, W, 3) uint8 of one episode, one more than it has steps; see :func:`record`.

    Raises:
        ConfigError: The environment cannot be drawn.
    """
    return [shot.picture for shot in record(vec, policy, seed=seed, **options)]


def film(
    vec: VecEnv,
    path: Path,
    policy: Actor | Choose,
    *,
    seed: int,
    captions: bool = True,
    max_steps: int | None = None,
    **options: Any,
) -> int:
    """Writes episodes to a GIF or MP4; see :func:`record` for the other arguments.

    No more is drawn than is shown: at most 30 pictures a second in a GIF, 60 in an MP4. Tiny pictures are enlarged, and
    smaller ones get margins where they differ in size.

    Args:
        vec: The environment.
        path: The file.
        policy: The policy that acts.
        seed: Seed of the episodes.
        captions: Whether to write the step and the return below the pictures.
        max_steps: Steps after which an episode is left; :data:`MAX_STEPS` where the environment has no limit.
        **options: Those of :func:`record`.

    Returns:
        The number of steps in it.

    Raises:
        ConfigError: The environment cannot be drawn, or the file cannot be written.
        Stopped: A signal asked for it.
    """
    most_fps = MOST_FPS[check_suffix(path)]
    every = max(1, math.ceil(vec.render_fps / most_fps))
    most = steps_of_film(vec, max_steps)
    shots: list[Shot] = []
    reel = Reel()
    for shot in record(vec, policy, seed=seed, max_steps=max_steps, every=every, **options):
        reel.append(shot.picture)
        shots.append(replace(shot, picture=NOTHING))
    write_video(path, _finished(reel, shots, most if captions else None), vec.render_fps / every)
    warn_of_one_colour(reel)
    lasts = [shot for shot, following in pairwise(shots) if following.step == 0] + shots[-1:]
    if left := sum(not shot.ended for shot in lasts):
        warnings.warn(
            f"{left} of {len(lasts)} episodes in '{path}' did not end, and were left after {lasts[-1].step:,} steps.",
            stacklevel=2,
        )
    return sum(shot.step for shot in lasts)


def _finished(reel: Reel, shots: list[Shot], most: int | None) -> Iterator[Picture]:
    """The pictures as they are shown: large enough, with a line of text below unless ``most`` is None."""
    episodes = shots[-1].episode + 1
    for number, shot in enumerate(shots):
        picture = enlarged(reel[number])
        yield picture if most is None else captioned(picture, _caption(shot, most, episodes), shot.step / most)


def _caption(shot: Shot, most: int, episodes: int) -> str:
    number = f"episode {shot.episode + 1}   " if episodes > 1 else ""
    return f"{number}step {shot.step} of {most}   return {shot.total:.6g}{'   end' if shot.ended else ''}"
