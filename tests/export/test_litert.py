"""LiteRT: run by ``make test-litert``, because its converter needs other versions of some packages than the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from untrained import flat, observations, untrained

import rltrain
from rltrain.cli import main
from rltrain.export.whole_policy import WholePolicy
from rltrain.tree import leaves, tree_map

pytest.importorskip("litert_torch", reason="LiteRT is tried by 'make test-litert'")

from rltrain.export.litert_file import LiteRTModel, write

CASES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("ppo", "vector", "box", {"normalize_obs": True, "policy_kwargs": {"memory": "lstm", "memory_size": 8}}),
    ("ppo", "nested", "multi", {}),
    ("pqn", "masked", "discrete", {"policy_kwargs": {"memory": "gru", "memory_size": 8}}),
    ("dqn", "image", "shifted", {"dueling": True}),
    ("sac", "tuple", "number", {}),
    ("bc", "masked_parts", "multi", {}),
    ("ppo", "masked", "discrete", {"policy_kwargs": {"memory": "mingru", "memory_size": 8}}),
    ("iql", "nested", "box", {"normalize_obs": True, "rescale": True}),
    ("cql", "masked", "discrete", {}),
    ("ppo", "signed", "binary", {}),
    ("sac", "wide", "bytes", {"rescale": True}),
]


@pytest.mark.parametrize("case", CASES, ids=["-".join(case[:3]) for case in CASES])
def test_it_acts_as_the_policy_does(case: tuple[str, str, str, dict[str, Any]], tmp_path: Path) -> None:
    algo, sees, acts, options = case
    policy = untrained(algo, sees, acts, **options)
    module = WholePolicy(policy, narrow=True)
    obs = observations(policy.translation.observation_space, 200)
    inputs = {**module.examples(200, seed=5), **flat(policy, obs)}
    rest = iter([torch.from_numpy(inputs[array.name]) for array in module.signature.state])
    action, state = policy.predict(obs, tree_map(lambda _: next(rest), module.initial), inputs.get("episode_start"))
    write(module, tmp_path / "policy.tflite")
    model = LiteRTModel(tmp_path / "policy.tflite", module.signature)
    rows = [model.run({name: array[i : i + 1] for name, array in inputs.items()}) for i in range(200)]
    for name, expected in zip(rows[0], (action, *(part.numpy() for part in leaves(state))), strict=True):
        answer = np.concatenate([row[name] for row in rows])
        np.testing.assert_allclose(answer.astype(float), expected.astype(float), rtol=1e-5, atol=1e-5)


def test_its_own_library_opens_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"total_timesteps": 64, "num_envs": 4, "n_eval_episodes": 0, "agent": {"n_steps": 16}}
    run = rltrain.train("ppo", "rltrain/CartPole-v1", progress=False, run_dir=str(tmp_path), **options).run_dir
    assert main(["export", str(run), "--to", "litert", "--out", str(tmp_path / "policy.tflite")]) == 0
    obs = np.full((1, 4), 0.1, np.float32)
    np.save(tmp_path / "obs.npy", obs)
    code = (
        "import sys; sys.modules['rltrain'] = sys.modules['torch'] = None\n"
        "import numpy as np; from ai_edge_litert.interpreter import Interpreter\n"
        "policy = Interpreter('policy.tflite').get_signature_runner()\n"
        "print(int(policy(args_0=np.load('obs.npy'))['output_0'][0]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == rltrain.load(run).predict(obs)[0][0]
