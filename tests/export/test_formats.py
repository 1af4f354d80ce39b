"""``rltrain export``: each file is opened by its own library in a process that cannot import rltrain."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rltrain
from rltrain.cli import main
from rltrain.errors import CheckpointError
from rltrain.export.description import read_description, read_verified

AGENT = {"n_steps": 32, "batch_size": 64, "n_epochs": 1, "normalize_obs": True}
AGENT["policy_kwargs"] = {"net_arch": [16], "memory": "lstm", "memory_size": 8, "ortho_init": False}

ALONE = """
import sys
for name in {blocked}:
    sys.modules[name] = None
import json, numpy as np
inputs = dict(np.load("inputs.npz"))
description = json.load(open("{file}.json"))
inputs = {{array["name"]: inputs[array["name"]] for array in description["inputs"]}}
{code}
np.savez("outputs.npz", **dict(zip((array["name"] for array in description["outputs"]), outputs)))
"""
ONNX = """
import onnxruntime
outputs = onnxruntime.InferenceSession("policy.onnx").run(None, inputs)
"""
PT2 = """
import torch
policy = torch.export.load("policy.pt2").module()
outputs = [part.numpy() for part in policy(*(torch.from_numpy(each) for each in inputs.values()))]
"""
JAX = """
import policy
state = {name: inputs["state." + name] for name in ("hidden", "cell")}
action, state = policy.forward(policy.load("policy.safetensors"), inputs["obs"], state, inputs["episode_start"])
outputs = [action, state["hidden"], state["cell"]]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options: dict[str, Any] = {"total_timesteps": 256, "num_envs": 4, "n_eval_episodes": 0, "agent": AGENT}
    folder = tmp_path_factory.mktemp("runs")
    return rltrain.train("ppo", "rltrain/CartPole-v1", progress=False, run_dir=str(folder), **options).run_dir


@pytest.mark.parametrize(
    ("form", "file", "code", "blocked"),
    [
        ("onnx", "policy.onnx", ONNX, ("rltrain", "torch")),
        ("pt2", "policy.pt2", PT2, ("rltrain",)),
        pytest.param(
            "jax",
            "policy.py",
            JAX,
            ("rltrain", "torch"),
            marks=pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed"),
        ),
    ],
)
def test_its_own_library_opens_it(
    form: str, file: str, code: str, blocked: tuple[str, ...], run: Path, tmp_path: Path, capfd: Any
) -> None:
    assert main(["export", str(run), "--to", form, "--out", str(tmp_path / file)]) == 0
    said = capfd.readouterr().out
    assert f"{file}: " in said
    assert "bytes, a call by" in said

    rng = np.random.default_rng(0)
    inputs = {
        "obs": rng.uniform(-0.2, 0.2, (40, 4)).astype(np.float32),
        "state.hidden": rng.standard_normal((40, 8)).astype(np.float32),
        "state.cell": rng.standard_normal((40, 8)).astype(np.float32),
        "episode_start": rng.random(40) < 0.3,
    }
    np.savez(tmp_path / "inputs.npz", **inputs)
    script = ALONE.format(blocked=blocked, file=file, code=code)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = np.load(tmp_path / "outputs.npz")

    import torch

    policy = rltrain.load(run)
    state = type(policy.agent.actor.initial_state(1))(
        *(torch.from_numpy(inputs[f"state.{x}"]) for x in ("hidden", "cell"))
    )
    action, after = policy.predict(inputs["obs"], state, inputs["episode_start"])
    assert outputs["action"].tolist() == action.tolist()
    assert len(set(action.tolist())) == 2
    for name in ("hidden", "cell"):
        np.testing.assert_allclose(outputs[f"next_state.{name}"], getattr(after, name), rtol=1e-5, atol=1e-5)


def test_the_description(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy.pt2"
    assert main(["export", str(run), "--to", "pt2", "--out", str(file)]) == 0
    description = read_description(file)
    facts = description.facts
    assert facts["lineage"]["run"] == f"rltrain-CartPole-v1/{run.name}"
    assert (facts["lineage"]["step"], facts["lineage"]["algo"]) == (256, "ppo")
    manifest = json.loads((run / "checkpoints" / "step_000000000256" / "manifest.json").read_text())
    assert facts["lineage"]["policy_sha256"] == manifest["files"]["policy.safetensors"]["sha256"]
    assert {"python", "rltrain", "torch"} <= facts["versions"].keys()
    assert [array.name for array in description.signature.inputs] == [
        "obs",
        "state.hidden",
        "state.cell",
        "episode_start",
    ]
    assert len(read_verified(file, description)) == facts["bytes"] == file.stat().st_size

    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="SHA-256 is not the one in the description"):
        read_verified(file, description)
    beside = tmp_path / "policy.pt2.json"
    beside.write_text(beside.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(CheckpointError, match="it was changed: its checksum differs"):
        read_description(file)
    beside.unlink()
    with pytest.raises(CheckpointError, match="keep the two together"):
        read_description(file)


def test_int8_is_smaller_and_its_loss_is_told(tmp_path: Path, capfd: Any) -> None:
    options: dict[str, Any] = {"total_timesteps": 64, "num_envs": 4, "n_eval_episodes": 0, "agent": {"n_steps": 16}}
    run = rltrain.train("ppo", "rltrain/Pendulum-v1", progress=False, run_dir=str(tmp_path), **options).run_dir
    capfd.readouterr()
    out = tmp_path / "policy.onnx"
    assert main(["export", str(run), "--to", "onnx", "--out", str(out), "--int8", "--episodes", "4"]) == 0
    said = capfd.readouterr().out
    small = tmp_path / "policy_int8.onnx"
    assert small.stat().st_size < out.stat().st_size
    score = read_description(small).facts["score"]
    assert score["episodes"] == 4
    assert score["difference"] == pytest.approx(score["mean_reward"] - score["of_the_original"])
    # The float file plays as the policy itself does: the same episodes, the same returns.
    assert score["of_the_original"] == pytest.approx(rltrain.load(run).evaluate(4).mean_reward, rel=1e-3)
    assert f"mean return {score['mean_reward']:.2f} instead of {score['of_the_original']:.2f} over 4 episodes" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "pt2", "--int8"], "'--to pt2' has no --int8. It is for --to onnx: leave it out."),
        (["--to", "onnx", "--episodes", "3"], "'--episodes' measures the score that --int8 costs."),
        (["--to", "onnx", "--out", "policy.txt"], "'policy.txt' does not end with .onnx."),
        (["--to", "onxx"], "There is no '--to onxx'. Did you mean 'onnx'?"),
        (["--to", "pt2", "--checkpoint", "7"], "has no checkpoint '7'"),
    ],
)
def test_mistakes(arguments: list[str], said: str, run: Path, capfd: Any) -> None:
    before = sorted(run.rglob("*"))
    assert main(["export", str(run), *arguments]) != 0
    assert said in " ".join(capfd.readouterr().err.split()).replace("Fix: ", "").replace("fix: ", "")
    assert sorted(run.rglob("*")) == before
