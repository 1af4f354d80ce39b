"""The packages that CONTRIBUTING.md shows whole, installed and used as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TRAIN = "--total-timesteps 64 --num-envs 2 --agent.n-steps 16 --agent.batch-size 32 --n-eval-episodes 0"


def section(title: str) -> str:
    """The text under a heading, up to the next one of its kind."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[2]


def installed(title: str, folder: Path) -> Path:
    """The package that a section shows, as an installer would leave it in a folder."""
    code, entry_points = (
        re.search(rf"^```{language}\n(.*?)^```", section(title), flags=re.DOTALL | re.MULTILINE)[1]  # type: ignore[index]
        for language in ("python", "toml")
    )
    package, info = folder / "your_package", folder / "your_package-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: your-package\nVersion: 1.0\n")
    groups = tomllib.loads(entry_points)["project"]["entry-points"]
    lines = [f"[{group}]\n{name} = {value}\n" for group, each in groups.items() for name, value in each.items()]
    (info / "entry_points.txt").write_text("".join(lines))
    return folder


def command(title: str, starts: str) -> str:
    """The command in a section that starts with these words."""
    return next(text for text in re.findall(r"`(rltrain [^`]+)`", section(title)) if text.startswith(starts))


def run(words: str, site: Path, cwd: Path) -> str:
    """What a command prints, with the package beside everything that is installed."""
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-P", "-m", "rltrain", *words.split()[1:]]
    done = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr
    return done.stdout


def test_the_tracker_of_the_guide_tracks_and_goes_on(tmp_path: Path) -> None:
    site = installed("Add a tracker", tmp_path / "site")
    assert "Metrics as lines of JSON." in run(command("Add a tracker", "rltrain trackers"), site, tmp_path)
    run(f"{command('Add a tracker', 'rltrain train')} {TRAIN} --agent.learning-rate 0.001", site, tmp_path)
    run_dir = tmp_path / "runs" / "rltrain-CartPole-v1" / "ppo_1"
    run(f"rltrain resume {run_dir} --total-timesteps 128", site, tmp_path)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [32, 64, 96, 128]
    assert all("train/loss" in line for line in lines)
    assert not (run_dir / "progress.csv").exists()


def test_the_verb_of_the_guide_is_listed_and_runs(tmp_path: Path) -> None:
    site = installed("Add a verb", tmp_path / "site")
    assert "Count the parameters of a trained policy." in run("rltrain --help", site, tmp_path)
    run(f"rltrain train ppo rltrain/CartPole-v1 {TRAIN}", site, tmp_path)
    assert int(run(command("Add a verb", "rltrain size"), site, tmp_path)) > 1_000


def test_the_way_of_a_learning_rate_is_short_and_there() -> None:
    files = re.findall(r"^\d\. `([\w./]+)`", section("The way of a learning rate"), flags=re.MULTILINE)
    assert 1 < len(files) <= 8
    assert len(set(files)) == len(files)
    assert all((ROOT / file).is_file() for file in files)
