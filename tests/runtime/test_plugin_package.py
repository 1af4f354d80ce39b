"""A package that brings a tracker, a verb, an exporter and an importer, found as an installed one is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

INIT = """
from rltrain import register_env, register_exporter, register_importer, register_tracker, register_verb


def register():
    register_tracker("lines", "neat_plugin.parts:Lines", description="A line a log point.")
    register_exporter("names", "neat_plugin.parts:names", description="The names of the policy's parameters.")
    register_importer(".zeros", "neat_plugin.parts:zeros")
    register_verb("greet", "neat_plugin.parts:greet", help="Say hello.")


def train():
    register_verb("train", "neat_plugin.parts:greet", help="Mine now.")


def broken():
    register_verb("early", "neat_plugin.parts:greet")
    raise RuntimeError("it fell over")


def fine():
    register_env("neat/Fine-v0", "neat_plugin.parts:Fine", description="All is well.")


def clash():
    register_env("rltrain/CartPole-v1", "elsewhere:CartPole")
"""
PARTS = """
from pathlib import Path

import rltrain


class Lines(rltrain.Tracker):
    def log(self, metrics, step):
        with (self.run.run_dir / "lines.txt").open("a") as file:
            file.write(f"{step}\\n")


def names(run, out, *, checkpoint):
    policy = rltrain.load(run, checkpoint=checkpoint)
    path = Path(out or Path(run) / "names.txt")
    path.write_text("\\n".join(policy.agent.state_dict()))
    return {path: f"step {policy.step}, to be read by people"}


def zeros(agent, file, *, algo, env_id):
    print(f"{algo} on {env_id} starts from {Path(file).name}")
    for parameter in agent.parameters():
        parameter.data.zero_()


def greet(arguments):
    print(f"Hello, {' '.join(arguments)}!")
    return 7 if "seven" in arguments else None
"""
ENTRY_POINTS = """
[rltrain.envs]
clash = neat_plugin:clash
fine = neat_plugin:fine
[rltrain.trackers]
neat = neat_plugin:register
[rltrain.verbs]
broken = neat_plugin:broken
greedy = neat_plugin:train
gone = no_such_module:register
"""
TRAIN = (
    "train ppo rltrain/CartPole-v1 --total-timesteps 64 --num-envs 2 --agent.n-steps 16 --agent.batch-size 32 "
    "--n-eval-episodes 0 --no-progress"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    package, info = folder / "neat_plugin", folder / "neat_plugin-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text(INIT)
    (package / "parts.py").write_text(PARTS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: neat-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


def rltrain(site: Path, cwd: Path, words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "rltrain", *words.split()]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_verb_of_a_plugin_stands_in_the_help_and_runs(site: Path, tmp_path: Path) -> None:
    done = rltrain(site, tmp_path, "--help")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert any(line.split(maxsplit=1) == ["greet", "Say hello."] for line in lines)
    assert lines.index(next(line for line in lines if line.startswith("train "))) < len(lines) // 2  # ours come first
    assert rltrain(site, tmp_path, "greet a b").stdout == "Hello, a b!\n"
    assert rltrain(site, tmp_path, "greet seven", 7).stdout == "Hello, seven!\n"


def test_what_is_broken_is_left_out_with_a_warning_and_takes_no_name_of_ours(site: Path, tmp_path: Path) -> None:
    done = rltrain(site, tmp_path, "--help")
    assert "Train an agent in an environment." in done.stdout
    assert "Mine now." not in done.stdout
    for line in (
        "by rltrain.envs.classic.cartpole:CartPole and by elsewhere:CartPole",
        "The plugin 'broken' (neat_plugin:broken) was left out: it fell over",
        "The plugin 'greedy' (neat_plugin:train) was left out: The verb 'train' is registered twice: by rltrain.cli.",
        "The plugin 'gone' (no_such_module:register) was left out: No module named 'no_such_module'",
    ):
        assert done.stderr.count(line) == 1
    done = rltrain(site, tmp_path, "envs")
    assert "neat/Fine-v0" in done.stdout
    assert "rltrain/CartPole-v1" in done.stdout


def test_a_tracker_an_exporter_and_an_importer_of_a_plugin(site: Path, tmp_path: Path) -> None:
    assert "lines        A line a log point." in rltrain(site, tmp_path, "trackers").stdout
    (tmp_path / "start.zeros").write_text("")
    words = f"{TRAIN} --trackers lines csv --init-from start.zeros"
    assert "ppo on rltrain/CartPole-v1 starts from start.zeros" in rltrain(site, tmp_path, words).stderr
    run = tmp_path / "runs" / "rltrain-CartPole-v1" / "ppo_1"
    assert (run / "lines.txt").read_text().split() == ["32", "64"]
    assert (run / "progress.csv").exists()
    done = rltrain(site, tmp_path, f"export {run} --to names")
    assert done.stdout == f"{run / 'names.txt'}: step 64, to be read by people\n"
    assert "policy." in (run / "names.txt").read_text()
    rltrain(site, tmp_path, f"export {run} --to names --out other.txt")
    assert (tmp_path / "other.txt").exists()
    assert "Did you mean 'names'?" in rltrain(site, tmp_path, f"export {run} --to name", 2).stderr
    assert "names: The names of the policy's parameters." in rltrain(site, tmp_path, "export --help").stdout


def test_the_help_imports_nothing_of_a_plugin_but_its_registration(site: Path, tmp_path: Path) -> None:
    code = "import sys\nfrom rltrain.cli import main\nmain(['--help'])\nassert 'neat_plugin' in sys.modules\n"
    code += "assert not {'neat_plugin.parts', 'torch'} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
