"""Row 11: no two streams of random numbers are the same, and nothing beside training changes a bit of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.torture.frame import Case, Outcome, Row

SEEDS, ENVS, RANKS = range(100), 64, 8
PLAIN: dict[str, Any] = {
    "total_timesteps": 1_024,
    "num_envs": 4,
    "num_threads": 1,
    "device": "cpu",
    "save_freq": 0,
    "n_eval_episodes": 0,
    "trackers": [],
}
BESIDE: dict[str, dict[str, Any]] = {
    "logging": {"log_interval": 1, "trackers": ["csv", "tensorboard"]},
    "rare logging": {"log_interval": 7},
    "evaluation": {"eval_freq": 200, "n_eval_episodes": 3},
    "checkpoints": {"save_freq": 1, "keep_checkpoints": 2},
    "films": {"video_freq": 700},
    "everything": {
        "eval_freq": 300,
        "n_eval_episodes": 3,
        "save_freq": 300,
        "video_freq": 700,
        "trackers": ["csv", "tensorboard"],
        "stats_window_size": 3,
    },
}
ROLLOUTS = {"n_steps": 64, "batch_size": 64, "n_epochs": 2, "normalize_obs": True}
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo": ("ppo", {**ROLLOUTS, "normalize_reward": True}),
    "pqn": ("pqn", ROLLOUTS),
    "dqn": ("dqn", {"learning_starts": 64, "batch_size": 16, "buffer_size": 600}),
    "rainbow": (
        "dqn",
        {
            **dict.fromkeys(("double_q", "dueling", "prioritized_replay", "distributional", "noisy"), True),
            **{"n_quantiles": 4, "n_steps": 3, "learning_starts": 64, "batch_size": 16, "buffer_size": 600},
        },
    ),
}
ENVIRONMENTS = ("rltrain/CartPole-v1", "CartPole-v1")


def no_collision(seeds: range, folder: Path) -> Outcome:
    """Generators, seeds of Gymnasium's environments, and first observations of tensor environments."""
    from tests.streams import gymnasium_seeds, starts, stream_keys

    keys, given, first = stream_keys(seeds, RANKS), gymnasium_seeds(seeds, ENVS, RANKS), starts(seeds, ENVS, RANKS)
    for name, number, different in (
        ("generators", len(keys), len(set(keys))),
        ("seeds of environments", len(given), len(set(given))),
        ("first observations", len(first), len(first.unique(dim=0))),
    ):
        assert different == number, f"{number - different} of {number} {name} are there already"
    return Outcome(True, figures={"streams": float(len(keys) + len(given) + len(first))})


def same_bits(agent: str, env: str, beside: str, folder: Path) -> Outcome:
    """A run ends with the same bits with and without what is done beside training, and with others by another seed."""
    from tests.bits import final_bits

    algo, settings = AGENTS[agent]
    options = {**PLAIN, "agent": settings, **({} if "/" in env else {"env_options": {"vectorization": "sync"}})}
    plain = final_bits(algo, env, folder / "plain", **options)
    with_it = final_bits(algo, env, folder / "with", **{**options, **BESIDE[beside]})
    assert plain.keys() == with_it.keys()
    different = [name for name in plain if plain[name] != with_it[name]]
    assert not different, f"{len(different)} of {len(plain)} differ, such as {different[0]}"
    assert len(plain) > 15
    other = final_bits(algo, env, folder / "other", **{**options, "seed": 1})
    assert any(plain[name] != other[name] for name in plain if name.startswith("policy."))
    return Outcome(True, figures={"bits": 8.0 * sum(map(len, plain.values()))})


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """Collisions first, then everything beside training, for each agent and kind of environment."""
    import rltrain.training.launch  # noqa: F401 (once, before the cases are forked)

    seeds = SEEDS[:10] if short else SEEDS
    yield f"seeds {seeds[0]} to {seeds[-1]} x {ENVS} environments x {RANKS} ranks", partial(no_collision, seeds)
    every = [(agent, env, beside) for agent in AGENTS for env in ENVIRONMENTS for beside in BESIDE]
    for agent, env, beside in [("ppo", ENVIRONMENTS[0], "evaluation")] if short else every:
        yield f"{agent} on {env}, {beside}", partial(same_bits, agent, env, beside)


def summary(figures: list[dict[str, float]]) -> str:
    """How many streams were compared, and how many runs."""
    streams = int(sum(each.get("streams", 0.0) for each in figures))
    return f"{streams:,} streams, {sum('bits' in each for each in figures)} pairs of runs"


ROW = Row(
    11,
    "seeds; independence of logging, evaluation, checkpoints, films",
    "no collision, same bits",
    cases,
    seconds=300.0,
    summary=summary,
)
