"""Asking what there is must be quick: heavy libraries are imported when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "tensorboard", "matplotlib", "stable_baselines3", "PIL", "imageio_ffmpeg")

SCRIPT = f"""
import sys
{{}}
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, f"imported {{{{loaded}}}}"
"""
COMMAND = "from rltrain.cli import main\nassert main({!r}) == 0"


@pytest.mark.parametrize(
    "code",
    [
        "import rltrain",
        "import rltrain.envs, rltrain.agents",
        "import rltrain.adapters.workers",
        "import gymnasium, rltrain\ngymnasium.spec('rltrain/CartPole-v1')",
        COMMAND.format(["--help"]),
        COMMAND.format(["--version"]),
        COMMAND.format(["envs"]),
        COMMAND.format(["agents"]),
        COMMAND.format(["trackers"]),
        COMMAND.format(["export", "--help"]),
        COMMAND.format(["check", "--help"]),
        COMMAND.format(["completion", "words", "train", "ppo", "rltrain/", "--agent."]),
        COMMAND.format(["completion", "words", "watch", "--"]),
        "import rltrain.runs.summary, rltrain.reports.groups, rltrain.reports.comparison",
        COMMAND.format(["new-env", "walk-home"]),
    ],
    ids=[
        "import",
        "import of the packages",
        "workers of host environments",
        "gymnasium.spec",
        "--help",
        "--version",
        "envs",
        "agents",
        "trackers",
        "export --help",
        "check --help",
        "completion of options of an agent",
        "completion of options of a verb",
        "what lists and compares runs",
        "new-env",
    ],
)
def test_needs_no_heavy_library(code: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(code)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


NEVER = (
    *("matplotlib", "imageio_ffmpeg", "stable_baselines3", "sb3_contrib", "optuna", "pandas", "scipy", "onnx", "jax"),
    *("torch._dynamo", "torch._inductor", "torch.onnx", "sympy"),  # half a second and more
)
"""What a run without a curve to draw, and an evaluation, leave alone: of torch, what --compile and export need."""


def test_what_training_leaves_alone(tmp_path: Path) -> None:
    train = ["train", "ppo", "rltrain/CartPole-v1", "--total-timesteps", "1", "--run-dir", "runs"]
    for arguments in (train, ["eval", "runs/rltrain-CartPole-v1/ppo_1", "--episodes", "2"]):
        code = COMMAND.format(arguments) + f"\nimport sys\nloaded = [name for name in {NEVER!r} if name in sys.modules]"
        code += "\nassert not loaded, f'imported {loaded}'"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments[0]}: {done.stderr}"


def test_a_name_of_the_library_loads_what_it_needs(tmp_path: Path) -> None:
    code = "import sys, rltrain\nrltrain.TensorEnv\nassert 'torch' in sys.modules\nassert 'TensorEnv' in dir(rltrain)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    import rltrain

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        rltrain.nothing  # noqa: B018
