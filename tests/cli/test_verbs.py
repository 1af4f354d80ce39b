"""The output and exit code of every verb in normal use."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from rltrain import __version__
from rltrain.cli import main
from rltrain.plugins import discover, verbs
from rltrain.runs.folder import RunFolder

CARTPOLE = "rltrain/CartPole-v1"
SHORT = shlex.split(
    "--total-timesteps 512 --num-envs 8 --n-eval-episodes 3 --eval-freq 256 --agent.n-steps 32 "
    "--agent.batch-size 64 --agent.n-epochs 1 --no-progress"
)
EVALUATION = {"mean_reward", "std_reward", "min", "max", "iqm", "ci95", "episodes", "mean_ep_length"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", "ppo", CARTPOLE, "--run-dir", str(folder), *SHORT]) == 0
    return folder / "rltrain-CartPole-v1" / "ppo_1"


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in (([], 2), (["--help"], 0), (["-h"], 0), (["help"], 0)):
        assert main(words) == code
        output = capsys.readouterr()
        assert output.err == ""
        for verb, spec in verbs.items():
            assert f"  {verb}" in output.out
            assert spec.help in output.out


@pytest.mark.parametrize("verb", list(verbs))
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_verb_has_help(verb: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, flag]) == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"usage: rltrain {verb}")
    assert "--debug" in output.out
    assert output.err == ""


def test_help_of_train_names_every_option_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ppo", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for option, default in {
        "--num-envs INT": "[8]",
        "--stop-at-reward NUMBER": "",
        "--run-dir TEXT": "[runs]",
        "--env.kwargs KEY VALUE": "",
        "--agent.gamma NUMBER": "[0.99]",
        "--agent.learning-rate NUMBER|TEXT": "[0.0003]",
        "--agent.normalize-obs true|false": "[false]",
        "--agent.policy-kwargs.activation-fn tanh|relu|silu|elu|gelu|leaky_relu": "[tanh]",
    }.items():
        [at] = [i for i, line in enumerate(lines) if line.startswith(f"  {option}")]
        end = next(i for i, line in enumerate(lines[at + 1 :], at + 1) if line.strip() == "" or line[2] != " ")
        assert " ".join(lines[at:end]).count(default), option


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rltrain {__version__}\n"


def test_train_says_where_everything_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "ppo", CARTPOLE, *SHORT, "--run_dir", str(tmp_path / "my runs"), "--agent.normalize_obs"]
    assert main(words) == 0
    output = capsys.readouterr()
    run = tmp_path / "my runs" / "rltrain-CartPole-v1" / "ppo_1"
    for text in ("512 steps", "over 3 episodes", str(run), f"{run / 'learning_curve.png'}", "tensorboard"):
        assert text in output.out
    assert "settings: ppo/rltrain-CartPole-v1.yaml" in output.err
    assert RunFolder(run).config().agent.model_dump()["normalize_obs"] is True  # an option alone is true
    assert RunFolder(run).config().run_dir == str(tmp_path / "my runs")


def test_train_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ppo", CARTPOLE, *SHORT, "--run-dir", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.keys() == {"run_dir", "steps", "seconds", "stopped_by", "evaluation", "picture", "cost"}
    assert result["steps"] == 512
    assert result["stopped_by"] == "total_timesteps"
    assert result["evaluation"].keys() == EVALUATION
    assert Path(result["picture"]).is_file()
    assert Path(result["run_dir"], "config.yaml").is_file()


def test_values_are_read_as_they_are_meant(tmp_path: Path) -> None:
    words = shlex.split(
        f"train ppo {CARTPOLE} --run-dir 1e3 --total-timesteps 1e0 --n-eval-episodes=0 --no-progress "
        "--init-from none --stop-at-reward=-1e3 --agent.target-kl none --env.kwargs.gravity 1.6 "
        "--agent.policy-kwargs.net-arch '{pi: [8], vf: [4, 4]}'"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(words) == 0
    config = RunFolder(tmp_path / "1e3" / "rltrain-CartPole-v1" / "ppo_1").config()
    assert (config.run_dir, config.total_timesteps, config.stop_at_reward) == ("1e3", 1, -1000.0)
    assert config.init_from is None
    assert config.env.kwargs == {"gravity": 1.6}
    assert config.agent.model_dump()["policy_kwargs"]["net_arch"] == {"pi": [8], "vf": [4, 4]}
    assert config.agent.model_dump()["target_kl"] is None


def test_a_file_lies_under_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "my settings.yaml"
    file.write_text(
        f"algo: ppo\nenv: {CARTPOLE}\nn_envs: 4\nn_timesteps: 1\nseed: 7\nn_eval_episodes: 0\n"
        "normalize: true\npolicy: MlpPolicy\nagent:\n  n_steps: 16\n  gamma: 0.5\n"
    )
    words = ["train", "--config", str(file), "--agent.gamma", "0.6", "--run-dir", str(tmp_path), "--no-progress"]
    assert main([*words, "--num_envs", "2"]) == 0
    config = RunFolder(tmp_path / "rltrain-CartPole-v1" / "ppo_1").config()
    agent = config.agent.model_dump()
    assert (config.num_envs, config.total_timesteps, config.seed) == (2, 1, 7)
    assert (agent["n_steps"], agent["gamma"], agent["normalize_obs"]) == (16, 0.6, True)
    assert agent["batch_size"] != 64  # from the tuned file, below both


def test_eval_json_has_the_promised_keys(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--json", "--episodes", "5"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.keys() == EVALUATION | {"checkpoint"}
    assert (result["episodes"], result["checkpoint"]) == (5, 512)
    assert result["min"] <= result["ci95"][0] <= result["mean_reward"] <= result["ci95"][1] <= result["max"]


def test_eval_with_other_constants(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def mean(*words: str) -> float:
        assert main(["eval", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["mean_reward"]

    assert 15 < mean(CARTPOLE) < 30  # random actions
    assert mean(CARTPOLE, "--env.kwargs.gravity", "100") < 15
    assert mean(CARTPOLE, "--env.kwargs.length=[5, 9]", "--policy", "random") > 40
    assert mean(str(run), "--env.kwargs.length=9", "--stochastic") > 2 * mean(str(run), "--stochastic")


def test_eval_in_words(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--episodes", "2", "--stochastic", "--seed", "4", "--checkpoint", "best"]) == 0
    output = capsys.readouterr()
    assert f"ppo on {CARTPOLE}" in output.out
    assert "over 2 episodes" in output.out
    assert output.err == ""


def test_eval_goes_on_after_a_warning(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The damaged checkpoint is named, and the one before it answers."""
    copy = Path(shutil.copytree(run, tmp_path / "ppo_1"))
    (copy / "checkpoints" / "step_000000000512" / "manifest.json").unlink()
    assert main(["eval", str(copy), "--episodes", "1", "--json"]) == 0
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert output.err.startswith("warning: ")
    assert "step_000000000512" in output.err
    assert json.loads(output.out)["checkpoint"] == 256


def test_resume_prints_as_train_does(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "ppo_1"))
    assert main(["resume", str(copy), "--total_timesteps", "1e3", "--no-progress", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["steps"], result["stopped_by"]) == (1_024, "total_timesteps")


def test_watch_films_a_run_and_an_environment(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words, film in (
        ([str(run)], run / "videos" / "step_000000000512.gif"),
        ([str(run / "checkpoints" / "step_000000000256"), "--stochastic"], run / "videos" / "step_000000000256.gif"),
        ([str(run), "--out", "my film.mp4"], tmp_path / "my film.mp4"),
        ([CARTPOLE], tmp_path / "CartPole-v1.gif"),
        ([CARTPOLE, "--out", "random.gif", "--seed", "3"], tmp_path / "random.gif"),
    ):
        assert main(["watch", *words]) == 0
        assert film.stat().st_size > 1_000
        assert film.name in capsys.readouterr().out


def test_plot_draws_one_run_and_several(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    other = shutil.copytree(run, tmp_path / "ppo_2")
    for words, picture in (
        ([str(run)], run / "learning_curve.png"),
        ([str(run), str(other)], tmp_path / "learning_curves.png"),
        ([str(run), "--out", "my curve.png"], tmp_path / "my curve.png"),
    ):
        assert main(["plot", *words]) == 0
        assert picture.read_bytes()[:4] == b"\x89PNG"
        assert picture.name in capsys.readouterr().out


def test_envs_and_agents(capsys: pytest.CaptureFixture[str]) -> None:
    for words, texts in (
        (["envs"], [CARTPOLE, "rltrain/Pendulum-v1"]),
        (["envs", "pendul"], ["rltrain/Pendulum-v1"]),
        (["envs", CARTPOLE], ["gravity", "9.8", "475", "Discrete(2)"]),
        (["agents"], ["ppo"]),
        (["agents", "ppo"], ["--agent.learning-rate"]),
    ):
        assert main(words) == 0
        output = capsys.readouterr().out
        assert all(text in output for text in texts), words
    assert main(["envs", "pendul"]) == 0
    assert CARTPOLE not in capsys.readouterr().out
    assert main(["envs", "--json"]) == 0
    assert CARTPOLE in json.loads(capsys.readouterr().out)
    assert main(["envs", CARTPOLE, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["reward_threshold"], facts["max_episode_steps"]) == (475.0, 500)
    assert facts["parameters"]["gravity"] == {"default": 9.8, "help": "Acceleration of free fall, m/s^2."}
    assert facts["reward"].startswith("1 in every step")
    assert (facts["group"], facts["source"][:6]) == ("classic", "Barto,")
    assert main(["agents", "ppo", "--json"]) == 0
    assert "gamma" in json.loads(capsys.readouterr().out)["schema"]["properties"]


@pytest.mark.parametrize(
    "program", [["-m", "rltrain"], ["-c", "import sys, rltrain.cli; sys.exit(rltrain.cli.main())"]]
)
def test_it_leaves_quietly_when_its_reader_does(program: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, *program, "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before there is anything to read
    assert process.stderr.read() == b""
    assert process.wait(timeout=30) == 0


def test_a_module_of_this_folder_can_be_named_on_the_command_line_alone(tmp_path: Path) -> None:
    """And comes after what is installed: a file here that is called like a library does no harm."""
    (tmp_path / "my_walk.py").write_text(
        "from rltrain import register_env\nfrom rltrain.registry import env_spec\n"
        f"register_env('me/Walk-v0', env_spec('{CARTPOLE}').entry_point, description='Mine.', max_episode_steps=9)\n"
    )
    for name in ("torch", "yaml", "json", "gymnasium"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')\n")
    program = [str(Path(sys.executable).parent / "rltrain")]
    for words, code in (
        (["train", "ppo", "my_walk:me/Walk-v0", *SHORT], 0),
        (["check", "my_walk:me/Walk-v0"], 0),
        (["watch", "runs/me-Walk-v0/ppo_1"], 2),
        (["train", "ppo", "me/Walk-v0", *SHORT], 2),
    ):
        done = subprocess.run([*program, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert ("me/Walk-v0" in done.stderr) or code == 0


@pytest.mark.parametrize("columns", [80, 120])
def test_what_is_printed_fits_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    discover()
    built_in = {name: str(spec.entry_point) for name, spec in verbs.items() if "rltrain.cli" in str(spec.entry_point)}
    commands = [[verb, "--help"] for verb in built_in]
    for verb, entry_point in built_in.items():  # those that have verbs of their own
        inner = getattr(import_module(entry_point.partition(":")[0]), "VERBS", {})
        commands += [[verb, each, "--help"] for each in inner]
    commands += [["train", "ppo", "rltrain/CartPole-v1", "--help"], ["--help"], ["envs"], ["agents"], ["agents", "sac"]]
    commands += [["envs", "rltrain/CartPole-v1"], ["trackers"]]
    for command in commands:
        assert main(command) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= columns, (command, max(lines, key=len))
        assert max(map(len, lines)) > columns - 5 or command[0] != "train"  # nor is room left empty
