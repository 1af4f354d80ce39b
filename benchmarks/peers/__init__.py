"""The libraries that ``python -m benchmarks`` compares: a module for each, run in its own virtual environment.

A peer is a row of :data:`PEERS` and a module that offers, for the measures named there:

- ``stepping(how, num_envs, seed)``: a function that steps this number of CartPole environments several times with
  random actions, and returns the number of steps; None if it cannot step so many.
- ``training(how, point, seed)``: a function that collects a rollout and learns from it, and returns the
  environment steps; None if it has no such agent. ``point`` is one of ``benchmarks.measures``.
- ``solving(how, seed)``: learns CartPole until the mean return of 100 training episodes is :data:`SOLVED`, and returns
  ``seconds`` of learning, ``steps``, ``solved``, ``start_seconds`` of compiling apart, and ``settings``.

The runner reads the rows and has none of the libraries. The module is imported only in its virtual environment, where
``python -m benchmarks.peers`` answers one request. All of them have Python's standard library, and nothing else, in
common.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SOLVED = 475.0  # Gymnasium's threshold for CartPole-v1
WINDOW = 100  # episodes
ACTIONS = 8  # batches of random actions, drawn before; a call of what `stepping` returns uses each once


@dataclass(frozen=True)
class Peer:
    """A library, and its measures."""

    title: str
    requirements: tuple[str, ...]  # for pip; empty for the environment that this runs in
    measures: dict[str, tuple[str, ...]] = field(default_factory=dict)  # measure -> the ways in which it is done
    module: str = ""  # its module, if not the one here with the peer's name


PPO_ALONE = {"training": ("",), "growth": ("",)}
PEERS = {
    "ours": Peer(
        "rltrain",
        (),
        {
            "stepping": ("",),
            "training": ("", "compiled"),
            "growth": ("",),
            "solving": ("PPO", "PQN", "PPO from prompt to prompt", "PQN from prompt to prompt"),
        },
    ),
    "gymnasium": Peer("Gymnasium", ("gymnasium==1.4.0",), {"stepping": ("NumPy", "sync", "async")}),
    "envpool": Peer("EnvPool", ("envpool==1.2.5",), {"stepping": ("",)}),
    "gymnax": Peer("gymnax", ("gymnax==1.0.1", "jax==0.10.2", "six"), {"stepping": ("a call for each step", "scan")}),
    "pufferlib": Peer("PufferLib", ("pufferlib==3.0.0", "torch"), {"stepping": ("",)}),
    "sb3": Peer(
        "Stable-Baselines3",
        ("stable-baselines3==2.9.2", "gymnasium==1.4.0", "torch"),
        {**PPO_ALONE, "solving": ("PPO as in RL Zoo", "PPO, 64 environments")},
    ),
    "sbx": Peer(
        "sbx",
        ("sbx-rl==0.28.0", "gymnasium==1.4.0", "jax==0.10.2", "torch"),
        {**PPO_ALONE, "solving": ("PPO as in RL Zoo", "PPO, 64 environments")},
    ),
    "rsl_rl": Peer(
        "rsl_rl",
        ("rsl-rl-lib==5.5.1", "gymnasium==1.4.0", "torch"),
        {**PPO_ALONE, "solving": ("PPO, 64 environments",)},
    ),
    "jax_loop": Peer("JAX, one program", ("jax==0.10.2",), PPO_ALONE),
    "rejax": Peer("rejax", ("rejax==0.1.3", "gymnax==0.0.9", "jax==0.10.2", "six"), {"training": ("",)}),
}

OTHERS = {
    "mujoco_torch": Peer("mujoco-torch", ("mujoco-torch==0.2.0", "mujoco==3.6.0", "torch")),
}
"""What commands of their own measure, such as ``python -m benchmarks.physics``."""
