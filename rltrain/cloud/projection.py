"""The least time that an accelerator takes for an iteration, by its data sheet. A projection: nobody has measured it.

An iteration (rollout and learning, no logging) runs on ``device="meta"``, where tensors have shapes and no data, and
every dispatched operation is looked at. Views aside, each is taken for one kernel that reads its arguments and writes
its results once, from and to the accelerator's memory. Then

    seconds = max(launches, bytes / bandwidth, operations / rate)

Launches, transfers and arithmetic overlap perfectly in it, which they do not; caches and ``torch.compile``, which makes
one kernel of many, count for nothing, which they do not either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from rltrain.check.op_counter import OpCounter
from rltrain.config import TrainConfig
from rltrain.cost.prices import DataSheet
from rltrain.make import make_vec
from rltrain.registry import agent_class
from rltrain.training.metrics import EpisodeStats, MetricMeans

IN_GRAPH = 1e-6  # s a kernel, within a CUDA graph
PER_CALL = 4  # launches from Python for a call of a graph, three of them to copy its arguments


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


def bounds(found: dict[str, int], sheet: DataSheet, *, graphs: bool) -> dict[str, float]:
    """Seconds that each of three things takes at least."""
    launched, inside = found["kernels"], 0
    if graphs:
        inside = found["inside"]
        launched += PER_CALL * found["calls"] - inside
    return {
        "launches": launched * sheet.seconds_per_launch + inside * IN_GRAPH,
        "memory": found["bytes"] / sheet.bytes_per_second,
        "arithmetic": found["flops"] / sheet.operations_per_second,
    }


def counted(config: TrainConfig) -> dict[str, int]:
    """What an iteration is made of: kernels, bytes, floating-point operations, and environment steps.

    Raises:
        Exception: The agent or the environment does not run on the meta device: it is no environment of tensors.
    """
    vec: Any = make_vec(config.env.id, config.num_envs, device="meta", **config.env.make_options())
    spaces = vec.single_observation_space, vec.single_action_space
    agent: Any = agent_class(config.algo)(*spaces, config.num_envs, config.agent, device="meta", seed=0)
    stats, means = EpisodeStats(100, agent.horizon, config.num_envs, vec.device), MetricMeans()
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
    return {**counts, "flops": flops.get_total_flops(), "steps": agent.horizon * config.num_envs}
