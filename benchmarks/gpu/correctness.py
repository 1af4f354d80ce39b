"""Whether training on the device is right, and whether anything waits for it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import rltrain
from benchmarks.gpu.rows import CARTPOLE
from benchmarks.gpu.setup import Setup
from rltrain.agents.parts.optim import FlatAdam
from rltrain.runs.checkpoint import load_policy, load_training

APART = 1e-2  # how far a mode may end from eager training, as a share of how far that came


def adam(setup: Setup) -> dict[str, Any]:
    """The fused optimizer on the device against ``torch.optim.Adam`` on the CPU in float64, with clipping."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 4))
    exact = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 4)).double()
    exact.load_state_dict(network.state_dict())
    start = nn.utils.parameters_to_vector(exact.parameters()).detach()
    network.to(setup.device)
    ours = FlatAdam(network.parameters(), eps=1e-5, max_grad_norm=0.5)
    theirs = torch.optim.Adam(exact.parameters(), eps=1e-5)
    for step in range(50):
        inputs, learning_rate = torch.randn(256, 8), 1e-3 / (1 + step)
        rate = torch.full((), learning_rate, device=setup.device)  # as it is within a CUDA graph
        ours.step(network(inputs.to(setup.device)).square().mean(), rate, reduce=lambda gradient: gradient)
        theirs.zero_grad()
        exact(inputs.double()).square().mean().backward()
        nn.utils.clip_grad_norm_(exact.parameters(), 0.5)
        theirs.param_groups[0]["lr"] = learning_rate
        theirs.step()
    end = nn.utils.parameters_to_vector(exact.parameters()).detach()
    error = float((nn.utils.parameters_to_vector(network.parameters()).detach().cpu() - end).abs().max())
    return {"passed": error < 1e-5, "largest_error": error, "largest_move": float((end - start).abs().max())}


def waits(setup: Setup, algo: str, mode: str) -> dict[str, Any]:
    """An iteration of training while every hidden wait for the GPU raises."""
    loop = setup.loop(algo, CARTPOLE, 64, mode)
    for _ in range(setup.warm_ups + 2):
        loop.iterate()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loop.iterate()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    loop.close()
    return {"passed": True}


def same(setup: Setup, algo: str, mode: str) -> dict[str, Any]:
    """Where training in a mode ends, against eager training with the same seeds.

    Few transitions, so that rounding does not come to another action and from there to another run.
    """
    start, eager, other = (trained(setup, algo, *how) for how in (("eager", 0), ("eager", None), (mode, None)))
    apart = float((other - eager).norm() / (eager - start).norm())
    return {"passed": apart < APART, "apart": apart, "moved": float((eager - start).norm())}


def trained(setup: Setup, algo: str, mode: str, iterations: int | None) -> Tensor:
    """All floating-point numbers of a policy in one float64 vector, after some iterations."""
    loop = setup.loop(algo, CARTPOLE, 16, mode)
    for _ in range(setup.warm_ups + 2 if iterations is None else iterations):
        loop.iterate()
    loop.close()
    numbers = [x.detach().double().flatten().cpu() for x in loop.agent.state_dict().values() if x.is_floating_point()]
    return torch.cat(numbers)


def resumes(setup: Setup, algo: str) -> dict[str, Any]:
    """A run of four iterations against one that goes on from its first checkpoint: all tensors of the last one."""
    num_envs = 64
    once = num_envs * setup.n_steps
    options = {"num_envs": num_envs, "agent": setup.settings(algo, num_envs), "device": setup.device, "seed": 0}
    with tempfile.TemporaryDirectory() as place:
        run = rltrain.train(
            algo,
            CARTPOLE,
            total_timesteps=4 * once,
            save_freq=once,
            keep_checkpoints=9,
            n_eval_episodes=0,
            run_dir=place,
            progress=False,
            **options,
        ).run_dir
        first, *_, last = sorted((run / "checkpoints").glob("step_*"))
        again = Path(place) / "again"
        shutil.copytree(run, again)
        rltrain.resume(again / "checkpoints" / first.name, progress=False)
        whole, resumed = (tensors(folder / "checkpoints" / last.name) for folder in (run, again))
    other = [name for name, x in whole.items() if not torch.equal(bits(x), bits(resumed[name]))]
    return {"passed": whole.keys() == resumed.keys() and not other, "tensors": len(whole), "different": other}


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    """All tensors that a checkpoint holds, by their paths."""
    found = {f"policy: {name}": tensor for name, tensor in load_policy(checkpoint).items()}
    branches = [("training", load_training(checkpoint))]
    while branches:
        path, branch = branches.pop()
        for name, value in branch.items():
            if isinstance(value, Tensor):
                found[f"{path}: {name}"] = value
            elif isinstance(value, dict):
                branches.append((f"{path}: {name}", value))
    return found


def bits(x: Tensor) -> Tensor:
    """A tensor as bytes, so that NaN equals itself."""
    return x.contiguous().flatten().view(torch.uint8)


def solves(setup: Setup, mode: str) -> dict[str, Any]:
    """``rltrain train ppo`` with its tuned settings, but for more steps to do it in, to the threshold of CartPole."""
    options: dict[str, Any] = {"compile": mode == "compiled", "device": setup.device, "seed": 1}
    if setup.mini:
        options |= {"total_timesteps": 4_000, "n_eval_episodes": 2, "compile": False}
    else:
        options |= {"total_timesteps": 250_000, "stop_at_reward": 475, "n_eval_episodes": 100}
    with tempfile.TemporaryDirectory() as place:
        result = rltrain.train("ppo", CARTPOLE, run_dir=place, progress=False, **options)
    reward = None if result.evaluation is None else float(result.evaluation.mean_reward)
    return {
        "passed": result.stopped_by == ("total_timesteps" if setup.mini else "stop_at_reward"),
        "seconds": round(result.seconds, 2),
        "compile_seconds": round(result.compile_seconds, 2),
        "steps": result.steps,
        "evaluation": reward,
    }
