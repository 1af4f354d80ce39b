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

STARTS = 2
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
        start = mujoco_torch.device_put(mujoco.MjData(model))
        answer = errors(model, lambda data: mujoco_torch.step(ours, data), start, request["steps"])
    except Exception as error:
        return {"failed": reason_of(error)}
    answer["rates"] = {}
    for n in request["num_envs"]:
        try:
            answer["rates"][str(n)] = rate(lambda data: mujoco_torch.step(ours, data), start, n, request["seconds"])
        except Exception as error:
            answer["rates"][str(n)] = reason_of(error)
    return answer


def reason_of(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


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


def errors(model: Any, step: Any, start: Any, steps: int) -> dict[str, Any]:
    """The largest difference of a coordinate or velocity after one step and after all, for each start."""
    starts, controls = prepared(model, steps)
    one, last, contacts = [], [], 0
    begin = time.perf_counter()
    for i, data in enumerate(starts):
        fields = ("qpos", "qvel", "qacc_warmstart")
        ours = start.replace(**{name: torch.from_numpy(getattr(data, name).copy()) for name in fields})
        for t, control in enumerate(controls[:, i]):
            data.ctrl[:] = control
            mujoco.mj_step(model, data)
            contacts += data.ncon > 0
            ours = step(ours.replace(ctrl=torch.from_numpy(control.copy())))
            if t == 0:
                one.append(gap(ours, data))
        last.append(gap(ours, data))
    seconds = time.perf_counter() - begin
    share = contacts / (len(starts) * steps)
    return {"one": max(one), "all": last, "with_contact": share, "seconds_per_step": seconds / (len(starts) * steps)}


def gap(ours: Any, data: Any) -> float:
    """The largest difference, relative to 1 or to the number."""
    theirs = np.concatenate((data.qpos, data.qvel))
    mine = np.concatenate((ours.qpos.numpy(), ours.qvel.numpy()))
    found = float((np.abs(mine - theirs) / np.maximum(np.abs(theirs), 1.0)).max())
    return found if np.isfinite(found) else float("inf")


def rate(step: Any, start: Any, num_envs: int, seconds: float) -> float:
    """MuJoCo's steps per second of N simulations: one by itself, or several at once by ``torch.vmap``."""
    rows = start
    if num_envs > 1:
        step, rows = torch.vmap(step), torch.stack([start] * num_envs)
    rows = step(rows)
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        rows = step(rows)
        count += num_envs
    return round(count / passed, 1)


if __name__ == "__main__":
    main()
