"""Makes the gallery in ``envs/README.md``: a picture, the rules and the scores of every environment.

    python -m benchmarks.gallery                       # everything anew
    python -m benchmarks.gallery rltrain/Maze-v0       # one picture and its scores, and the page

Pictures are ``envs/gallery/<name>.png``. Scores are mean returns of 1,000 episodes of random actions and of the
environment's baseline policy, if it has one. Scores of trained agents come from ``benchmarks.seeds --save``, and steps
per second from ``benchmarks.stepping``.
"""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks import store
from benchmarks.seeds import spread
from rltrain.describe import describe_env
from rltrain.env import TensorEnv
from rltrain.evaluation.baselines import baseline_policy, evaluate_baseline
from rltrain.evaluation.episodes import MAX_ENVS
from rltrain.evaluation.video import record_episode
from rltrain.make import make_vec
from rltrain.registry import env_class, env_specs

EPISODES = 1_000
PAGE = Path(__file__).parents[1] / "envs" / "README.md"
PICTURES = PAGE.parent / "gallery"
OVERVIEW = (
    "Acrobot-v1", "MountainCar-v0", "FrozenLake-v1", "Blackjack-v1", "Taxi-v4",
    "MinAtar-Breakout-v1", "MiniGrid-KeyCorridorS3R3-v0", "MiniGrid-LavaGapS7-v0", "Sokoban-v0", "Snake-v0",
    "CarParking-v0", "VerticalLanding-v0", "QuadrotorTrack-v0", "Reacher-v0", "DeepSea-v0",
    "JobShop-v0", "Inventory-v0", "BatteryArbitrage-v0", "Game2048-v0", "Bandit-v0",
)  # fmt: skip
AGENTS = ("ppo", "dqn", "sac", "pqn")
INTRODUCTION = """# Environments

Every environment is a few functions on batched torch tensors, and a Gymnasium environment at the same time.
`rltrain envs` lists them. `rltrain envs ID` prints what this page says about one, and the constants that
`--env.kwargs.NAME VALUE` changes. `rltrain watch ID` films random actions.

Scores are mean returns. Those of random actions and of the baseline policy, a classical method that some environments
bring along (`rltrain eval ID --policy baseline`), are over {episodes:,} episodes. Those of agents with the settings in
`configs/` are over 100 episodes, or as many as `n_eval_episodes` says: the median over seeds, and the range in
parentheses. Steps per second are those of `TensorVecEnv.step` with 4,096 environments, eager, on {machine}.

This page is written by `python -m benchmarks.gallery`, from its own measurements and those of
`python -m benchmarks.stepping` and `python -m benchmarks.seeds AGENT ID --save`. All figures are in
`benchmarks/results/`.
"""


def main() -> None:
    """Draws, measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("envs", nargs="*", metavar="ENV", help="which to draw and measure again [all]")
    parser.add_argument("--page-only", action="store_true", help="write the page from existing figures")
    parsed = parser.parse_args()
    torch.set_num_threads(1)

    specs = env_specs()
    scores = {env_id: score for env_id, score in store.load("scores").items() if env_id in specs}
    for env_id in () if parsed.page_only else parsed.envs or specs:
        draw(env_id)
        scores[env_id] = measure(env_id)
        store.save("scores", dict(sorted(scores.items())))
        print(env_id, scores[env_id], flush=True)
    draw_overview()
    PAGE.write_text(page(scores))


def draw(env_id: str) -> None:
    """A picture from the middle of an episode, of the baseline policy if there is one."""
    vec = make_vec(env_id, 1, render=True)
    frames = record_episode(vec, baseline_policy(vec, "baseline" if has_baseline(env_id) else "random"), seed=1)
    picture = Image.fromarray(frames[len(frames) // 2])
    picture.thumbnail((320, 320), Image.Resampling.LANCZOS)
    PICTURES.mkdir(exist_ok=True)
    picture.quantize(64).save(PICTURES / f"{store.bare(env_id)}.png", optimize=True)


def draw_overview() -> None:
    """Draws some of the pictures on one sheet."""
    width, height, columns = 192, 144, 5
    sheet = Image.new("RGB", (columns * width, len(OVERVIEW) // columns * height), "white")
    for i, name in enumerate(OVERVIEW):
        picture = Image.open(PICTURES / f"{name}.png").convert("RGB")
        picture.thumbnail((width - 8, height - 8), Image.Resampling.LANCZOS)
        left, top = i % columns * width, i // columns * height
        sheet.paste(picture, (left + (width - picture.width) // 2, top + (height - picture.height) // 2))
    sheet.quantize(128).save(PICTURES / "overview.png", optimize=True)


def measure(env_id: str) -> dict[str, dict[str, float]]:
    """Mean return of the untrained policies."""
    names = ("random", "baseline") if has_baseline(env_id) else ("random",)
    vec = make_vec(env_id, min(EPISODES, MAX_ENVS))
    results = {name: evaluate_baseline(vec, name, EPISODES, seed=0) for name in names}
    return {
        name: {"mean": float(f"{result.mean_reward:.4g}"), "std": float(f"{result.std_reward:.4g}")}
        for name, result in results.items()
    }


def has_baseline(env_id: str) -> bool:
    """Whether the environment has a baseline policy."""
    return env_class(env_id).baseline is not TensorEnv.baseline


def page(scores: dict[str, Any]) -> str:
    """The whole of ``envs/README.md``."""
    stepping = store.load("stepping")
    machine = next((entry["machine"] for entry in stepping.values()), store.machine())
    described = f"one thread of an {machine['processor']}, torch {machine['torch']}"
    parts = [INTRODUCTION.format(episodes=EPISODES, machine=described)]
    specs = sorted(env_specs().values(), key=lambda spec: (spec.group, spec.id))
    for group, members in groupby((spec for spec in specs if spec.id in scores), key=lambda spec: spec.group):
        parts.append(f"## {group}\n")
        for spec in members:
            speed = stepping.get(f"{spec.id} 4096 1", {}).get("eager", {}).get("steps_per_second")
            learned = {agent: store.load(f"{agent}/{store.bare(spec.id)}") for agent in AGENTS}
            parts.append(entry(describe_env(spec.id), scores[spec.id], learned, speed))
    return "\n".join(parts)


def entry(facts: dict[str, Any], scores: dict[str, Any], learned: dict[str, Any], speed: float | None) -> str:
    """The entry of one environment; ``learned`` are the runs by agent."""
    name = store.bare(facts["id"])
    rows = [
        ("observation", f"{facts['observation']} `{facts['observation_space']}`"),
        ("action", f"{facts['action']} `{facts['action_space']}`"),
        ("reward", facts["reward"]),
        ("episode end", f"{facts['episode_end']} Time limit: {facts['max_episode_steps'] or 'none'}."),
        ("threshold", facts["reward_threshold"]),
        ("random", value(scores["random"])),
        ("baseline", f"{value(scores['baseline'])}: {facts['baseline']}" if "baseline" in scores else None),
        *((agent.upper(), trained(runs)) for agent, runs in learned.items() if runs),
        ("steps/s", f"{speed / 1e6:.1f} million" if speed else None),
        ("source", facts["source"]),
    ]
    table = "\n".join(f"| {label} | {escaped(text)} |" for label, text in rows if text is not None)
    return (
        f"### {facts['id']}\n\n{facts['description']}\n\n![{facts['id']}](gallery/{name}.png)\n\n"
        f"| | |\n| --- | --- |\n{table}\n"
    )


def value(score: dict[str, float]) -> str:
    """A mean with its deviation."""
    return f"{score['mean']:g} ± {score['std']:g}"


def trained(learned: dict[str, Any]) -> str:
    """Scores, steps and seconds of the seeds."""
    runs = learned["runs"]
    steps, seconds = ([run[key] for run in runs] for key in ("steps", "seconds"))
    means = [run["evaluation"]["mean_reward"] for run in runs]
    return (
        f"{spread(means, '{:.4g}')}, {len(runs)} seeds, {spread(steps, '{:,.0f}')} steps, {spread(seconds, '{:.0f}')} s"
    )


def escaped(text: Any) -> str:
    """Text for a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("``", "`")


if __name__ == "__main__":
    main()
