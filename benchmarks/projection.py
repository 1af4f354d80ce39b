"""What an iteration of training would take on an H100. A projection: nobody has measured it.

    python -m benchmarks.projection
    python -m benchmarks.projection ppo --num-envs 16384 --n-steps 32

An iteration (rollout and learning, no logging) runs on ``device="meta"``, where tensors have shapes and no data, and
every dispatched operation is looked at. Views aside, each is taken for one kernel that reads its arguments and writes
its results once, from and to the GPU's memory. Then

    seconds = max(launches, bytes / 3.35e12, operations / 67e12)

with the memory bandwidth and float32 rate of an H100 SXM by its data sheet. A kernel takes 4 us to launch from Python
and, with ``--compile``, 1 us within a CUDA graph; a call of a graph takes four launches from Python, three of them to
copy its arguments. Launches, transfers and arithmetic overlap perfectly in it, which they do not; caches and
``torch.compile``, which makes one kernel of many, count for nothing, which they do not either.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from rltrain.check.op_counter import OpCounter
from rltrain.make import make_vec
from rltrain.registry import agent_class
from rltrain.settings import build_config
from rltrain.training.metrics import EpisodeStats, MetricMeans

ENVS = ("rltrain/CartPole-v1", "rltrain/MinAtar-Breakout-v1")
FROM_PYTHON, IN_GRAPH = 4e-6, 1e-6  # s a kernel
PER_CALL = 4  # launches
BANDWIDTH = 3.35e12  # bytes/s
RATE = 67e12  # float32 operations/s, without tensor cores


class Traffic(OpCounter):
    """Counts kernels, and the bytes that go in and out of them.

    Attributes:
        kernels: Operations that are no views.
        bytes: Of their arguments and results.
        calls: Of what :meth:`graph` made.
        inside: Kernels within them.
    """

    kernels = bytes = calls = inside = 0
    recording = False

    def graph(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, as something that is a CUDA graph when it is compiled."""

        def inner(*args: Any) -> Any:
            self.calls, self.recording = self.calls + 1, True
            out = function(*args)
            self.recording = False
            return out

        return inner

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(op, types, args, kwargs)
        if not op.is_view:
            self.kernels += 1
            self.inside += self.recording
            tensors = {id(x): x for x in tree_leaves((args, kwargs or {}, out)) if isinstance(x, Tensor)}
            self.bytes += sum(x.numel() * x.element_size() for x in tensors.values())
        return out


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agents", nargs="*", metavar="AGENT", help="[ppo dqn pqn]")
    parser.add_argument("--envs", nargs="+", default=ENVS, metavar="ID", help=f"[{' '.join(ENVS)}]")
    parser.add_argument("--num-envs", type=int, default=4096, help="N [4096]")
    parser.add_argument("--n-steps", type=int, default=32, help="T; of DQN its train_freq [32]")
    parsed = parser.parse_args()
    print("| agent | environment | kernels | GB | GFLOP | ms eager | ms in graphs | bound then by | steps/s then |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for algo in parsed.agents or ("ppo", "dqn", "pqn"):
        for env in parsed.envs:
            found = counted(algo, env, parsed.num_envs, parsed.n_steps)
            times = bounds(found, graphs=True)
            eager, graphs = max(bounds(found, graphs=False).values()), max(times.values())
            bound = max(times, key=times.__getitem__)
            print(
                f"| {algo} | {env} | {found['kernels']:,} | {found['bytes'] / 1e9:.2f} | {found['flops'] / 1e9:.1f} "
                f"| {1e3 * eager:.2f} | {1e3 * graphs:.2f} | {bound} "
                f"| {parsed.num_envs * parsed.n_steps / graphs / 1e6:.0f} million |"
            )


def bounds(found: dict[str, int], *, graphs: bool) -> dict[str, float]:
    """Seconds that each of three things takes at least."""
    launched, inside = found["kernels"], 0
    if graphs:
        inside = found["inside"]
        launched += PER_CALL * found["calls"] - inside
    return {
        "launches": launched * FROM_PYTHON + inside * IN_GRAPH,
        "memory": found["bytes"] / BANDWIDTH,
        "arithmetic": found["flops"] / RATE,
    }


def counted(algo: str, env: str, num_envs: int, n_steps: int, settings: dict[str, Any] | None = None) -> dict[str, int]:
    """What an iteration is made of.

    Args:
        algo: The agent.
        env: The environment's id.
        num_envs: N.
        n_steps: T; of DQN its ``train_freq``.
        settings: All hyperparameters that are not the agent's own defaults. None for tuned ones but for the size of
            rollouts, with 4 minibatches an epoch.
    """
    sizes: dict[str, Any] = {"train_freq": n_steps, "learning_starts": 0}
    if algo != "dqn":
        sizes = {"n_steps": n_steps, "batch_size": num_envs * n_steps // 4}
    base = None if settings is None else ({}, "the agent's own defaults")
    config, _ = build_config(algo, env, {"num_envs": num_envs, "agent": settings or sizes}, base=base)
    vec: Any = make_vec(env, num_envs, device="meta")
    spaces = vec.single_observation_space, vec.single_action_space
    agent = agent_class(algo)(*spaces, num_envs, config.agent, device="meta", seed=0)
    stats, means = EpisodeStats(100, agent.horizon, num_envs, vec.device), MetricMeans()
    obs = vec.reset(0)
    for _ in range(2):  # the first one takes memory
        traffic = Traffic()
        for owner, names in ((vec, ("_advance",)), (agent, agent.graph_methods)):
            for name in names:
                setattr(owner, name, traffic.graph(getattr(type(owner), name).__get__(owner)))
        with traffic, FlopCounterMode(display=False) as flops:
            for _ in range(agent.horizon):
                out = agent.act(obs)
                step = vec.step(out.action)
                agent.record(out, step)
                stats.note(step)
                obs = step.obs
            stats.merge()
            means.add(agent.learn())
    counts = {name: getattr(traffic, name) for name in ("kernels", "bytes", "calls", "inside")}
    return {**counts, "flops": flops.get_total_flops()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
