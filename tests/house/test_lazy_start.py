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


def test_a_name_of_the_library_loads_what_it_needs(tmp_path: Path) -> None:
    code = "import sys, rltrain\nrltrain.TensorEnv\nassert 'torch' in sys.modules\nassert 'TensorEnv' in dir(rltrain)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    import rltrain

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        rltrain.nothing  # noqa: B018
