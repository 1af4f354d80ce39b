"""What one iteration of training has the GPU do: kernels, graphs, copies, and for how long it is busy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu import expected
from benchmarks.gpu.setup import Setup

CALLS = {  # beginnings of the names of CUDA's functions
    "kernels": ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchCooperativeKernel"),
    "graphs": ("cudaGraphLaunch", "cuGraphLaunch"),
    "copies": ("cudaMemcpy", "cuMemcpy"),
    "fills": ("cudaMemset", "cuMemset"),
}
BOTH = [ProfilerActivity.CPU, ProfilerActivity.CUDA]


def iteration(setup: Setup, algo: str, env: str, num_envs: int, mode: str) -> dict[str, Any]:
    """Calls from the host in one iteration, beside the kernels and the graphs that the projection counts."""
    projected = expected.count(setup, algo, env, num_envs)
    loop = setup.loop(algo, env, num_envs, mode)
    for _ in range(setup.warm_ups):
        loop.iterate()
    unseen, _ = setup.seconds_of(loop.iterate)
    with profile(activities=BOTH):  # the first one sets the profiler up
        setup.seconds_of(loop.iterate)
    with profile(activities=BOTH) as seen:
        setup.seconds_of(loop.iterate)
    loop.close()
    averages = seen.key_averages()
    on_device = [event for event in averages if event.device_type != DeviceType.CPU and not event.is_user_annotation]
    return {
        **by_kind({event.key: event.count for event in averages}),
        "projected_kernels": projected["kernels"],
        "projected_graphs": 0 if mode == "eager" else projected["calls"],
        "iteration_ms": round(1e3 * unseen, 2),
        "busy_ms": round(sum(event.self_device_time_total for event in on_device) / 1e3, 2),
    }


def by_kind(calls: Mapping[str, int]) -> dict[str, int]:
    """How often there was a call of each kind, from the calls by name."""
    return {
        kind: sum(number for name, number in calls.items() if name.startswith(beginnings))
        for kind, beginnings in CALLS.items()
    }
