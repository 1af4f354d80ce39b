"""Records whole episodes in rounds: every environment is reset, plays one episode, and waits for the others.

Which episodes are kept does not depend on how long they are: every row of a round gives its first episode, or none.
Every round has seeds of its own, so the start of each episode is known where the environment is seeded by row, and a
recording that was interrupted goes on with the next round as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rltrain.agent import Actor, next_state
from rltrain.data.columns import ACTION, OBS, REWARD, TERMINATED, TRUNCATED
from rltrain.data.layout import NO_SEED
from rltrain.data.writer import DatasetWriter
from rltrain.env import Observation
from rltrain.evaluation.episodes import Choose, as_actor
from rltrain.evaluation.limits import Limits
from rltrain.process.stopping import check
from rltrain.rng import derive_seed, make_generator
from rltrain.tree import tree_map, tree_where
from rltrain.vec import VecEnv

CHECK_EVERY = 16  # steps between two checks, on a device that the host would wait for
SAVE_EVERY = 30.0  # seconds between two points from which an interrupted recording can go on
MEMORY = 2**30  # bytes that the observations of a round may take


@dataclass(frozen=True)
class Contributor:
    """A policy that acts in a recording.

    Attributes:
        begin: Called with the environments and a seed before each round; returns who acts.
        episodes: How many episodes it plays.
        facts: What the dataset says of it, as JSON values with a ``name``.
        deterministic: Whether it takes the most likely action rather than a sample.
    """

    begin: Callable[[VecEnv, int], Actor | Choose]
    episodes: int
    facts: dict[str, Any]
    deterministic: bool = True


@torch.no_grad()
def record_rounds(
    vec: VecEnv,
    contributors: list[Contributor],
    writer: DatasetWriter,
    *,
    seed: int,
    limits: Limits,
) -> None:
    """Adds the episodes that are still missing to a dataset.

    Args:
        vec: The environments, in use nowhere else.
        contributors: Who acts, one after another.
        writer: The dataset. It may have the episodes of some rounds already.
        seed: Seed of the episodes and of sampled actions.
        limits: Prints the progress.

    Raises:
        Stopped: A signal asked for it; the rounds that are over were saved.
    """
    limits.begin()
    before, saved = 0, limits.passed
    total = sum(each.episodes for each in contributors)
    try:
        for index, each in enumerate(contributors):
            for number, first in enumerate(range(0, each.episodes, vec.num_envs)):
                count = min(vec.num_envs, each.episodes - first)
                if before + first >= writer.written:
                    stream = derive_seed(seed, "record", index, number)
                    add_round(vec, each, writer, index, count, stream, limits)
                    if limits.passed - saved >= SAVE_EVERY:
                        writer.save()
                        saved = limits.passed
                    limits.tell(f"{writer.written} of {total} episodes")
            before += each.episodes
    except BaseException:
        if writer.written:
            writer.save()
        raise


def add_round(
    vec: VecEnv, who: Contributor, writer: DatasetWriter, policy: int, count: int, seed: int, limits: Limits
) -> None:
    """Plays one episode in each of the first ``count`` environments, and adds them."""
    actor = as_actor(who.begin(vec, derive_seed(seed, "policy")))
    rng = make_generator(vec.device, derive_seed(seed, "actions"))
    most_steps, check_every = limits.steps_in(vec), 1 if vec.device.type == "cpu" else CHECK_EVERY
    obs = tree_map(Tensor.clone, vec.reset(seed))
    state = initial = actor.initial_state(vec.num_envs)
    running = torch.arange(vec.num_envs, device=vec.device) < count
    final: Observation = tree_map(torch.zeros_like, obs)
    rows: list[dict[str, Any]] = []
    while True:
        check()
        out = actor(obs, state, deterministic=who.deterministic, rng=rng)
        action = out.action.clone()
        step = vec.step(out.action)
        truncated = step.truncated.clone()
        if most_steps is not None:
            truncated |= (step.episode_length >= most_steps) & ~step.terminated
        ended = (step.terminated | truncated) & running
        row = {OBS: obs, ACTION: action, REWARD: step.reward.clone(), TERMINATED: step.terminated.clone()}
        rows.append({**row, TRUNCATED: truncated, "running": running})
        final = tree_where(ended, step.final_obs, final)
        running = running & ~ended
        obs, state = tree_map(Tensor.clone, step.obs), next_state(out, step, initial)
        if len(rows) % check_every == 0 and not bool(running.any()):
            break
    running = torch.stack([row.pop("running") for row in rows], 1)  # (N, T)
    seeds = getattr(vec, "episode_seeds", lambda _: None)(seed)
    writer.add(
        {name: _by_episode(rows, name, running) for name in named_rows(rows[0])},
        running.sum(1)[:count].cpu().numpy(),
        {name: part[:count].cpu().numpy() for name, part in named_rows({OBS: final}).items()},
        seeds=np.array((seeds or [NO_SEED] * count)[:count], np.int64),
        policies=policy,
    )


def named_rows(row: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a row by the names of their columns."""
    found: dict[str, Tensor] = {}
    for name, part in row.items():
        entries = {"": part} if isinstance(part, Tensor) else part
        found |= {f"{name}.{key}" if key else name: tensor for key, tensor in entries.items()}
    return found


def _by_episode(rows: list[dict[str, Any]], name: str, running: Tensor) -> np.ndarray:
    """A column of the steps that count, one episode after another."""
    return torch.stack([named_rows(row)[name] for row in rows], 1)[running].cpu().numpy()


def rows_that_fit(vec_bytes: int, steps: int, at_most: int) -> int:
    """How many environments a round may have so that its observations fit into :data:`MEMORY`.

    Args:
        vec_bytes: Bytes of one observation.
        steps: The most steps of an episode.
        at_most: The most environments.
    """
    return max(1, min(at_most, MEMORY // max(1, 2 * vec_bytes * steps)))
