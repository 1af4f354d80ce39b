"""Who is compared in ``python -m benchmarks``: one module each, run in a virtual environment of its own.

A peer is a row of :data:`PEERS` and a module that offers, for the measures named there:

- ``stepping(how, num_envs, seed)``: a function that steps that many environments of CartPole some times with random
  actions, and returns how many steps that were; None where such a number is beyond it.
- ``training(point, seed)``: a function that collects a rollout and learns from it, and returns the environment steps;
  None where it has no such agent. ``point`` is one of ``benchmarks.measures``.
- ``solving(how, seed)``: learns CartPole until the mean return of 100 training episodes is :data:`SOLVED`, and returns
  ``seconds`` of learning, ``steps``, ``solved``, ``start_seconds`` of compiling apart, and ``settings``.

Rows are read by the runner, which has none of the libraries; the module is imported in the virtual environment alone,
where ``python -m benchmarks.peers`` answers one request. Python's standard library is all they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SOLVED = 475.0  # Gymnasium's threshold for CartPole-v1
WINDOW = 100  # episodes
ACTIONS = (
    8  # batches of random actions, drawn before and used in turn; a call of what `stepping` returns uses each once
)


@dataclass(frozen=True)
class Peer:
    """A library, and what is measured of it."""

    title: str
    requirements: tuple[str, ...]  # for pip; none where it is the environment that this runs in
    measures: dict[str, tuple[str, ...]] = field(default_factory=dict)  # measure -> the ways in which it is done
    module: str = ""  # where it is, if not here under the peer's name


PPO_ALONE = {"training": ("",), "growth": ("",)}
PEERS = {
    "ours": Peer(
        "rltrain",
        (),
        {
            "stepping": ("",),
            **PPO_ALONE,
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
}
