"""mujoco-torch against MuJoCo: how far its steps are off, and how many it takes in a second.

``python -m benchmarks.physics`` starts it with the Python of its own virtual environment, because it replaces parts of
torch when it is imported. It reads a JSON object and prints another one as its last line.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import time
from typing import Any

import mujoco
import numpy as np
import torch

STARTS = 8
WARM_UP = 100  # steps of random actions by MuJoCo before a start, so that there are contacts


def main() -> None:
    """Reads, measures, answers."""
    request = json.load(sys.stdin)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["cores"]])
    torch.set_num_threads(request["cores"])
    with contextlib.redirect_stdout(sys.stderr):
        answer = answer_to(request)
    names = ("mujoco-torch", "mujoco", "torch", "tensordict")
    print(json.dumps({**answer, "versions": {name: importlib.metadata.version(name) for name in names}}))


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """Errors and rates for a model, or why there are none."""
    import mujoco_torch

    torch.set_default_dtype(torch.float64)
    model = mujoco.MjModel.from_xml_path(request["xml"])
    if solver := request.get("solver"):
        model.opt.solver = getattr(mujoco.mjtSolver, f"mjSOL_{solver}")
    try:
        ours = mujoco_torch.device_put(model)
        starts, controls = prepared(model, request["steps"])
        batch = torch.stack([mujoco_torch.device_put(mujoco.MjData(model)) for _ in starts])
        for name in ("qpos", "qvel", "qacc_warmstart"):
            batch = batch.replace(**{name: torch.from_numpy(np.stack([getattr(data, name) for data in starts]))})
        step = torch.vmap(lambda data: mujoco_torch.step(ours, data))
        answer = errors(model, step, batch, starts, controls)
        answer["rates"] = {str(n): rate(step, batch, n, request["seconds"]) for n in request["num_envs"]}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return answer


def prepared(model: Any, steps: int) -> tuple[list[Any], np.ndarray]:
    """Starts that random actions have led to, and the actions (T, N, A) to come."""
    rng = np.random.default_rng(0)
    low, high = model.actuator_ctrlrange.T
    controls = rng.uniform(low, high, (WARM_UP + steps, STARTS, model.nu))
    starts = []
    for i in range(STARTS):
        data = mujoco.MjData(model)
        for t in range(WARM_UP):
            data.ctrl[:] = controls[t // 5 * 5, i]
            mujoco.mj_step(model, data)
        starts.append(data)
    return starts, controls[WARM_UP:]


def errors(model: Any, step: Any, batch: Any, starts: list[Any], controls: np.ndarray) -> dict[str, Any]:
    """The largest difference of a coordinate or velocity after one step and after all, relative to 1 or to the number.

    The median over the starts stands beside the largest: after an impact two solutions part.
    """
    gaps, contacts = [], 0
    for t, control in enumerate(controls):
        for data, each in zip(starts, control, strict=True):
            data.ctrl[:] = each
            mujoco.mj_step(model, data)
            contacts += data.ncon > 0
        batch = step(batch.replace(ctrl=torch.from_numpy(controls[t].copy())))
        if t in (0, len(controls) - 1):
            gaps.append([gap(batch, data, i) for i, data in enumerate(starts)])
    return {
        "one": [float(np.median(gaps[0])), float(np.max(gaps[0]))],
        "all": [float(np.median(gaps[-1])), float(np.max(gaps[-1]))],
        "with_contact": contacts / controls[..., 0].size,
    }


def gap(batch: Any, data: Any, row: int) -> float:
    """The largest difference of a row, relative to 1 or to the number."""
    theirs = np.concatenate((data.qpos, data.qvel))
    mine = np.concatenate((batch.qpos[row].numpy(), batch.qvel[row].numpy()))
    found = float((np.abs(mine - theirs) / np.maximum(np.abs(theirs), 1.0)).max())
    return found if np.isfinite(found) else float("inf")


def rate(step: Any, batch: Any, num_envs: int, seconds: float) -> float:
    """MuJoCo's steps per second of N simulations at once, uncompiled."""
    rows = batch[torch.arange(num_envs) % len(batch)].clone()
    rows = step(rows)
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        rows = step(rows)
        count += num_envs
    return round(count / passed, 1)


if __name__ == "__main__":
    main()
