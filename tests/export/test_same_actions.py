"""What was exported acts as the policy does: in every format, for every agent and every kind of space."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from untrained import ACTIONS, OBSERVATIONS, flat, observations, untrained

from rltrain.errors import ConfigError
from rltrain.export.onnx_file import OnnxModel, write
from rltrain.export.whole_policy import WholePolicy, trace
from rltrain.runs.policy import Policy
from rltrain.tree import leaves, tree_map

ROWS = 1000
Case = tuple[str, str, str, dict[str, Any]]
LSTM, GRU, MINGRU = ({"memory": kind, "memory_size": 8} for kind in ("lstm", "gru", "mingru"))
NORMED = {"normalize_obs": True}

# Every agent of ours, two of Stable-Baselines3, memory, masks, pictures, statistics, every kind of action.
WHOLE: list[Case] = [
    ("ppo", "vector", "box", {**NORMED, "policy_kwargs": LSTM, "rescale": True}),
    ("ppo", "nested", "multi", NORMED),
    ("ppo", "image", "binary", {}),
    ("pqn", "masked", "discrete", {"policy_kwargs": GRU}),
    ("dqn", "tuple", "shifted", {"dueling": True, "distributional": True, "noisy": True}),
    ("sac", "binary", "bytes", {"rescale": True}),
    ("bc", "vector", "multi", NORMED),
    ("iql", "nested", "box", {**NORMED, "rescale": True}),
    ("cql", "masked", "discrete", NORMED),
    ("sb3/ppo", "multi", "box", {"rescale": False}),
    ("sb3/sac", "number", "number", NORMED),
]
# torch's own graph is much quicker to make.
GRAPHS: list[Case] = [
    *(("ppo", sees, acts, {}) for sees, acts in zip(OBSERVATIONS, itertools.cycle(ACTIONS), strict=False)
      if acts != "bytes" and not sees.startswith("masked")),
    ("ppo", "tuple", "multi", {"policy_kwargs": {**GRU, "activation_fn": "gelu"}}),
    ("ppo", "masked", "discrete", {"policy_kwargs": {**MINGRU, "activation_fn": "elu"}}),
    ("ppo", "signed", "number", {"policy_kwargs": {"squash_output": True}}),
    ("ppo", "masked_parts", "multi", {}),
    ("sb3/dqn", "screen", "discrete", {}),
    ("pqn", "nested", "shifted", NORMED),
    ("dqn", "masked", "discrete", {}),
    ("dqn", "image", "discrete", {"policy_kwargs": {"layer_norm": True}}),
    ("sac", "nested", "box", {**NORMED, "rescale": True}),
    ("sac", "vector", "number", {"use_sde": True}),
    ("bc", "masked", "discrete", {}),
    ("bc", "nested", "box", {}),
    ("iql", "masked_parts", "multi", {}),
    ("iql", "image", "shifted", {}),
    ("cql", "tuple", "shifted", {"policy_kwargs": {"layer_norm": True}}),
    *(("sb3/" + name, "tuple", "shifted", NORMED) for name in ("ppo", "a2c", "trpo", "qrdqn")),
    ("sb3/dqn", "vector", "shifted", NORMED),
    *(("sb3/" + name, "tuple", "number", NORMED) for name in ("sac", "td3", "ddpg", "tqc")),
    ("sb3/crossq", "vector", "number", {}),
    ("sb3/ppo", "vector", "binary", {}),
    ("sb3/ppo", "shifted", "multi", {}),
]  # fmt: skip


def named(case: Case) -> str:
    return "-".join((*case[:3], *case[3])).replace("/", "_")


def asked(policy: Policy, module: WholePolicy) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Inputs of 1,000 rows, and what the policy answers."""
    obs = observations(policy.translation.observation_space, ROWS)
    inputs = {**module.examples(ROWS, seed=5), **flat(policy, obs)}
    rest = iter([torch.from_numpy(inputs[array.name]) for array in module.signature.state])
    state = tree_map(lambda _: next(rest), module.initial)
    action, state = policy.predict(obs, state, inputs.get("episode_start"))
    return inputs, [action, *(part.numpy() for part in leaves(state))]


def compare(answer: Mapping[str, np.ndarray], expected: list[np.ndarray]) -> None:
    """Discrete actions are equal, all numbers within 1e-5."""
    assert len(answer) == len(expected)
    for mine, theirs in zip(answer.values(), expected, strict=True):
        assert mine.shape == theirs.shape
        if theirs.dtype.kind != "f":
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_allclose(mine.astype(np.float64), theirs.astype(np.float64), rtol=1e-5, atol=1e-5)
    assert len(np.unique(expected[0])) > 1


def made(case: Case) -> Policy:
    algo, sees, acts, options = case
    return untrained(algo, sees, acts, **options)


@pytest.mark.parametrize("case", WHOLE, ids=map(named, WHOLE))
def test_onnx(case: Case, tmp_path: Path) -> None:
    policy = made(case)
    module = WholePolicy(policy)
    inputs, expected = asked(policy, module)
    write(module, tmp_path / "policy.onnx")
    model = OnnxModel(tmp_path / "policy.onnx", module.signature)
    compare(model.run(inputs), expected)
    one = model.run({name: array[:1] for name, array in inputs.items()})  # another number of rows
    np.testing.assert_allclose(one["action"], expected[0][:1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", GRAPHS, ids=map(named, GRAPHS))
def test_the_graph_of_torch(case: Case) -> None:
    policy = made(case)
    module = WholePolicy(policy)
    inputs, expected = asked(policy, module)
    graph = trace(module).module()
    answer = graph(*(torch.from_numpy(array) for array in inputs.values()))
    names = [array.name for array in module.signature.outputs]
    compare(dict(zip(names, (part.numpy() for part in answer), strict=True)), expected)


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
@pytest.mark.parametrize("case", [*WHOLE, *GRAPHS[-20:]], ids=map(named, [*WHOLE, *GRAPHS[-20:]]))
def test_jax(case: Case, tmp_path: Path) -> None:
    from rltrain.export import jax_file

    policy = made(case)
    module = WholePolicy(policy)
    inputs, expected = asked(policy, module)
    source, tensors = jax_file.source_and_tensors(module, "A policy.")
    (tmp_path / "policy.py").write_text(source)
    jax_file.write_tensors(tensors, tmp_path / "policy.safetensors")
    compare(jax_file.runner(module, tmp_path / "policy.py")(inputs), expected)


def test_a_reset_and_a_mask_are_inside() -> None:
    """The state of rows where an episode starts does not matter, and what is forbidden is never chosen."""
    module = WholePolicy(made(("pqn", "masked", "discrete", {"policy_kwargs": GRU})))
    graph = trace(module).module()
    inputs = module.examples(64)
    allowed = np.zeros((64, 3), np.int8)
    allowed[np.arange(64), np.arange(64) % 3] = 1
    inputs["obs.action_mask"] = allowed
    inputs["episode_start"] = np.arange(64) < 32
    other = {**inputs, "state": inputs["state"] + 1.0}
    first, second = (graph(*(torch.from_numpy(array) for array in each.values())) for each in (inputs, other))
    assert first[0].tolist() == second[0].tolist() == (np.arange(64) % 3).tolist()
    torch.testing.assert_close(first[1][:32], second[1][:32])
    assert not torch.allclose(first[1][32:], second[1][32:])


class Undecided(torch.nn.Module):
    """Takes another path through its code where the numbers are large: nothing that a graph can hold."""

    def __init__(self, observation_space: Any, outputs: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, outputs + 1)

    def forward(self, obs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.layer(obs["1"])
        if bool(out.abs().max() > 1e6):
            out = out / 2
        return out[:, 1:], out[:, 0]


def test_what_cannot_be_traced_is_told() -> None:
    policy = untrained("ppo", "tuple", "discrete", policy_kwargs={"network_class": Undecided})
    with pytest.raises(ConfigError, match=r"torch.export cannot trace this policy: .*same path through its code"):
        trace(WholePolicy(policy))
