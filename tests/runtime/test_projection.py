"""What the projection for a GPU counts."""

from __future__ import annotations

import pytest
import torch

from benchmarks.projection import bounds, counted
from rltrain.cloud.projection import Traffic


def test_views_are_free_and_the_rest_reads_and_writes() -> None:
    x = torch.ones(8)
    with Traffic() as traffic:
        y = x.view(2, 4)
        assert (traffic.kernels, traffic.bytes) == (0, 0)
        y = y + y
        assert (traffic.kernels, traffic.bytes) == (1, 64)  # one argument, one result
        y.mul_(x.view(2, 4))
        assert (traffic.kernels, traffic.bytes) == (2, 128)


@pytest.mark.parametrize("algo", ["ppo", "dqn", "pqn"])
def test_work_grows_with_the_environments_and_launches_do_not(algo: str) -> None:
    small, large = (counted(algo, "rltrain/CartPole-v1", n, 4) for n in (256, 512))
    assert small["kernels"] == large["kernels"] > 100
    assert small["bytes"] < large["bytes"]
    if algo == "ppo":  # 2 epochs, of two networks of 64 x 64: forwards once in 7 passes of one, backwards in 4
        rows, one = 256 * 4, 2 * (4 * 64 + 64 * 64)
        forwards = rows * (7 * one + 2 * 64 * (3 * 2 + 4 * 1))
        assert small["flops"] > 2 * forwards
        assert large["flops"] == 2 * small["flops"]
    assert small["kernels"] > small["inside"] > 4 * small["calls"]
    eager, graphs = (bounds(small, graphs=graphs) for graphs in (False, True))
    assert graphs["launches"] < eager["launches"] == small["kernels"] * 4e-6 > eager["memory"] == graphs["memory"]
