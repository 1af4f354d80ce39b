"""The examples of CONTRIBUTING.md are complete: its agents learn and resume exactly, its adapter passes the checks."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import rltrain
from rltrain import registry

BLOCKS = re.findall(
    r"^```python\n(.*?)^```",
    (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    flags=re.DOTALL | re.MULTILINE,
)

# By a line of the example: what it is registered as, where it trains, for how long, and the least score. Random actions
# score about 20 in CartPole and 0 in MemoryChain.
AGENTS: dict[str, tuple[str, str, dict[str, Any], int, float]] = {
    "class ActorCritic(": ("actor_critic", "rltrain/CartPole-v1", {"num_envs": 64}, 65_536, 80.0),
    "class DDPG(": (
        "ddpg",
        "rltrain/Probe-Target-v0",
        {
            "num_envs": 8,
            "agent": {
                "learning_starts": 512,
                "train_freq": 4,
                "buffer_size": 4_096,
                "learning_rate": 3e-3,
                "tau": 0.05,
            },
        },
        8_192,
        0.9,
    ),
    "class Recurrent(": (
        "recurrent",
        "rltrain/MemoryChain-v0",
        {"num_envs": 64, "env_kwargs": {"memory_length": 3}},
        65_536,
        0.9,
    ),
}


def example(line: str) -> dict[str, Any]:
    """The names that an example defines, run as a module of its own."""
    (source,) = (block for block in BLOCKS if line in block)
    module = types.ModuleType("guide")
    exec(compile(source, "CONTRIBUTING.md", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


@pytest.mark.parametrize("line", AGENTS)
def test_an_agent_learns_and_resumes_exactly(line: str, clean_registries: None, tmp_path: Path) -> None:
    name, env, options, total, least = AGENTS[line]
    example(line)
    common: dict[str, Any] = {**options, "run_dir": str(tmp_path), "progress": False}
    assert rltrain.train(name, env, total_timesteps=total, **common).evaluation.mean_reward > least  # type: ignore[union-attr]
    half, whole = (
        rltrain.train(name, env, total_timesteps=steps, n_eval_episodes=0, **common).run_dir for steps in (2_048, 4_096)
    )
    rltrain.resume(half, total_timesteps=4_096, progress=False)
    for file in ("policy.safetensors", "training.safetensors"):
        path = f"checkpoints/step_000000004096/{file}"
        assert (half / path).read_bytes() == (whole / path).read_bytes()


def test_an_adapter_passes_the_checks_and_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = types.ModuleType("your_adapter")
    module.__dict__.update(example("def vectorize("))
    monkeypatch.setitem(sys.modules, "your_adapter", module)
    monkeypatch.setattr(registry, "FINDERS", (*registry.FINDERS, "your_adapter:find"))
    report = rltrain.check_env("walks/Line")
    assert report.findings == [], str(report)
    options: dict[str, Any] = {"num_envs": 16, "total_timesteps": 8_192, "run_dir": str(tmp_path), "progress": False}
    result = rltrain.train("ppo", "walks/Line", agent={"batch_size": 128}, **options)
    assert result.evaluation is not None
    assert result.evaluation.mean_reward > -6.0  # at random about -25
    with pytest.raises(rltrain.errors.ConfigError, match="walks has: walks/Line"):
        rltrain.make_vec("walks/Lien", 2)
