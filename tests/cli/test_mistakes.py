"""Typing mistakes: one line for the cause, one for the fix, the right exit code, and nothing is created."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import warnings
from pathlib import Path

import pytest

import rltrain
from rltrain.cli import main
from rltrain.runs.folder import RunFolder

CARTPOLE = "rltrain/CartPole-v1"
TRAIN = f"train ppo {CARTPOLE} --run-dir out"
LONG = "9" * 30


class Room:
    """A folder with a run and some things that are no runs; what happens to it is seen."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def contents(self) -> dict[Path, bytes]:
        files = (path for path in self.path.rglob("*") if path.name != ".lock" and "__pycache__" not in path.parts)
        return {path: path.read_bytes() if path.is_file() else b"" for path in files}


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("room")
    agent = {"n_steps": 32, "batch_size": 64, "n_epochs": 1}
    options = {"total_timesteps": 256, "num_envs": 8, "n_eval_episodes": 1, "agent": agent}
    result = rltrain.train("ppo", CARTPOLE, progress=False, run_dir=path / "runs", **options)
    for name in ("run", "bare", "damaged", "strange", "unknown"):
        shutil.copytree(result.run_dir, path / name)
    shutil.rmtree(path / "bare" / "checkpoints")
    (path / "damaged" / "checkpoints" / "step_000000000256" / "policy.safetensors").write_bytes(b"x")
    RunFolder(path / "strange").update_metadata({"observation_space": {"type": "Sphere"}})
    (path / "unknown" / "config.yaml").write_text("algo: xyz\nenv: y")
    (path / "empty").mkdir()
    (path / "file").write_text("text")
    (path / "zip.zip").write_bytes(b"PK")
    (path / "bad.yaml").write_text("a: [")
    (path / "list.yaml").write_text("- 1")
    (path / "void.yaml").write_text("")
    (path / "binary.yaml").write_bytes(b"\x80\xff\x00")
    (path / "date.yaml").write_text("seed: 2024-13-45")
    (path / "number.yaml").write_text("algo: ppo\nenv: 3")
    (path / "null.yaml").write_text(f"algo: ppo\nenv: {CARTPOLE}\nagent:")
    (path / "typo.yaml").write_text(f"algo: ppo\nenv: {CARTPOLE}\nagent:\n  gama: 0.9")
    (path / "broken_plugin.py").write_text("1 / 0")
    return path


@pytest.fixture
def room(furnished: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.chdir(furnished)
    monkeypatch.syspath_prepend(furnished)
    return Room(furnished)


# Command line, and a part of the cause or the fix
USAGE = [
    # verbs
    ("trian", "'train'"),
    ("Train", "'train'"),
    ("--versoin", "'--version'"),
    ("-x", "Known: train"),
    *[
        (typed, f"Did you mean '{verb}'?")
        for typed, verb in (("enjoy", "watch"), ("test run", "eval"), ("tune", "sweep"))
    ],
    ("''", "There is no verb ''"),
    ("'a\nb'", "There is no verb 'a b'"),
    # who and where
    ("train", "Name an agent and an environment"),
    ("train ppo", "Name an environment"),
    (f"train {CARTPOLE}", f"no agent '{CARTPOLE}'"),
    (f"train {CARTPOLE} ppo", f"no agent '{CARTPOLE}'"),
    (f"train pop {CARTPOLE}", "'ppo'"),
    (f"train PPO {CARTPOLE}", "'ppo'"),
    # algorithms by the names that they have elsewhere
    (f"train a2c {CARTPOLE}", "Did you mean 'sb3/a2c'?"),
    (f"train TD3 {CARTPOLE}", "Did you mean 'sb3/td3'?"),
    (f"train ddpg {CARTPOLE}", "Did you mean 'sb3/ddpg'?"),
    (f"train trpo {CARTPOLE}", "Did you mean 'sb3/trpo'?"),
    (f"train tqc {CARTPOLE}", "Did you mean 'sb3/tqc'?"),
    (f"train qr-dqn {CARTPOLE}", "Did you mean 'sb3/qrdqn'?"),
    (f"train CrossQ {CARTPOLE}", "Did you mean 'sb3/crossq'?"),
    (f"train sb3/A2C {CARTPOLE}", "Did you mean 'sb3/a2c'?"),
    (f"train MaskablePPO {CARTPOLE}", "Train ppo: it heeds the action masks"),
    (f"train sb3/recurrent_ppo {CARTPOLE}", "--agent.policy-kwargs.memory lstm"),
    (f"train sb3 {CARTPOLE}", "Name one of its agents: sb3/ppo, sb3/a2c"),
    (f"train ARS {CARTPOLE}", "random search is not here"),
    (f"train rainbow {CARTPOLE}", "Train dqn"),
    ("sweep a2c rltrain/CartPole-v1", "Did you mean 'sb3/a2c'?"),
    ("train ppo rltrain/CartPol-v1", f"'{CARTPOLE}'"),
    ("train ppo rltrain/cartpole-v1", f"'{CARTPOLE}'"),
    ("train ppo CartPole-v2", "'CartPole-v1'"),
    ("train ppo nowhere:Env-v0", "cannot be imported"),
    ("train ppo :Env-v0", "cannot be imported"),
    ("train ppo ..:Env-v0", "cannot be imported"),
    ("train ppo my_games.py", "Name its module: my_games."),
    ("train ppo ./my_games.py:Walk", "Name its module, in the folder where it is: my_games:Walk."),
    ("train ppo gymnasium", "Name one, as in gymnasium:"),
    (f"{TRAIN} --steps 100", "'total_timesteps'"),
    ("train ppo broken_plugin:Env-v0", "division by zero"),
    ("train ppo 'two words'", "no environment 'two words'"),
    (f"{TRAIN} extra", "'extra' is too much"),
    (f"{TRAIN} --trackers csvv", "'csv'"),
    (f"{TRAIN} --trackers csv tensorbord", "'tensorboard'"),
    (f"{TRAIN} --trackers csv,no-such", "Run 'rltrain trackers'"),
    (f"{TRAIN} --trackers csv csv", "'csv' is there twice"),
    (f"{TRAIN} --trackers true", "a value other than true"),
    (f"{TRAIN} --trackers 3", "trackers=3"),
    (f"{TRAIN} --trackers '{{csv: 1}}'", "trackers="),
    (f"{TRAIN} --trackers '[1, 2]'", "trackers"),
    (f"{TRAIN} --tracker csv", "'trackers'"),
    (f"{TRAIN} --algo ppo", "both given"),
    (f"{TRAIN} --env {CARTPOLE}", "both given"),
    # what does not fit
    (f"train dqn {CARTPOLE} --run-dir out --agent.buffer-size 1_000_000_000_000", "GiB are free"),
    (f"train dqn {CARTPOLE} --run-dir out --agent.buffer-size 100_000_000_000 --agent.prioritized-replay true", "GiB"),
    ("train dqn rltrain/Pendulum-v1 --run-dir out", "no action values"),
    ("train pqn rltrain/Pendulum-v1 --run-dir out", "no action values"),
    (f"train sac {CARTPOLE} --run-dir out", "no policy for the action space"),
    (f"train dqn {CARTPOLE} --run-dir out --agent.gradient-steps 0", "at least 1, or -1"),
    # names of options
    (f"{TRAIN} --sede 1", "'seed'"),
    (f"{TRAIN} --total-timestep 1", "'total_timesteps'"),
    (f"{TRAIN} --total_timesteps_ 1", "'total_timesteps'"),
    (f"{TRAIN} --lr 1", "no option 'lr'"),
    (f"{TRAIN} --learning-rate 1", "'agent.learning_rate'"),
    (f"{TRAIN} --n-steps 1", "'agent.n_steps'"),
    (f"{TRAIN} --agent.lerning-rate 1", "'agent.learning_rate'"),
    (f"{TRAIN} --agent.policy-kwargs.net-arhc [8]", "'agent.policy_kwargs.net_arch'"),
    (f"{TRAIN} --env.kwarg.gravity 1", "'env.kwargs'"),
    (f"{TRAIN} --env.gravity 1", "id, kwargs"),
    (f"{TRAIN} --agnet.gamma 1", "'agent'"),
    (f"{TRAIN} --quiet", "no option 'quiet'"),
    # the right spelling in one step
    (f"{TRAIN} --agent.n-stesp 1", "Did you mean 'agent.n_steps'?"),
    (f"{TRAIN} --n-stesp 1", "Did you mean 'agent.n_steps'?"),
    (f"{TRAIN} --net-arch [8]", "Did you mean 'agent.policy_kwargs.net_arch'?"),
    (f"{TRAIN} --agent.seed 1", "Did you mean 'seed'?"),
    (f"{TRAIN} --max-episode-steps 9", "Did you mean 'env.max_episode_steps'?"),
    (f"{TRAIN} --agent.lr 1e-3", "Did you mean 'agent.learning_rate'?"),
    # as Stable-Baselines3 has it
    (f"{TRAIN} --verbose 1", "--no-progress"),
    (f"{TRAIN} --agent.verbose 1", "--no-progress"),
    (f"{TRAIN} --tensorboard-log tb", "--run-dir"),
    (f"{TRAIN} --agent.use-sde true", "sb3/ppo"),
    (f"{TRAIN} --render", "rltrain watch"),
    (f"{TRAIN} --env.render-mode human", "rltrain watch"),
    ("train ppo CartPole-v1 --run-dir out --env.kwargs.render-mode human", "rltrain watch"),
    ("train ppo CartPole-v1 --run-dir out --env.kwargs.sutton-barto-reward maybe", "neither true nor false"),
    (f"{TRAIN} --agent.policy-kwargs.net-arch 64,64", "[64, 64]"),
    (f"train MlpPolicy {CARTPOLE} --run-dir out", "names the agent"),
    (f"{TRAIN} --agent.policy-kwargs.net-arch '[{{pi: [8], vf: [8]}}]'", "{pi: [64], vf: [64]}"),
    (f"train dqn {CARTPOLE} --run-dir out --agent.policy-kwargs.net-arch '{{qf: [8]}}'", "[64, 64]"),
    (f"{TRAIN} --agent.policy-kwargs.activation-fn torch.nn.Softplus", "'relu' for torch.nn.ReLU"),
    # as RL Zoo, CleanRL and Hydra have it
    (f"{TRAIN} -n 1000", "Here it is --total-timesteps"),
    (f"{TRAIN} -f logs", "Here it is --run-dir"),
    (f"{TRAIN} -params n_steps:32", "Here it is --agent.NAME"),
    (f"{TRAIN} --hyperparams n_steps:32 gamma:0.9", "--agent.n-steps 32"),
    ("train ppo nothing-like-it-v0 --gym-packages my_package", "before the environment, which imports it"),
    (f"{TRAIN} --env-kwargs gravity:1", "Did you mean 'env.kwargs'?"),
    (f"{TRAIN} --env.kwargs gravity:1", "--env.kwargs.NAME VALUE"),
    (f"{TRAIN} --agent.policy-kwargs 'dict(net_arch=[8])'", "--agent.policy-kwargs.net-arch"),
    (f"{TRAIN} --agent.policy-kwargs.features-extractor-class CNN", "from Python a class of your own"),
    (f"{TRAIN} --num-minibatches 4", "--agent.batch-size"),
    (f"{TRAIN} --update-epochs 4", "Did you mean 'agent.n_epochs'?"),
    (f"{TRAIN} --capture-video", "Did you mean 'video_freq'?"),
    (f"{TRAIN} --cuda true", "--device cuda"),
    (f"{TRAIN} --anneal-lr true", "lin_0.001"),
    (f"{TRAIN} --resume run", "rltrain resume RUN"),
    (f"train ppo env={CARTPOLE}", f"Options are written --env {CARTPOLE}"),
    (f"{TRAIN} agent.learning_rate=1e-3", "Options are written --agent.learning-rate 1e-3"),
    (f"{TRAIN} -seed 1", "no option '-seed'"),
    (f"{TRAIN} -n 1", "no option '-n'"),
    (f"{TRAIN} -", "no option '-'"),
    (f"{TRAIN} --", "no option '--'"),
    (f"{TRAIN} --=1", "no option '--'"),
    (f"{TRAIN} --agent. 1", "no option '--agent.'"),
    (f"{TRAIN} --agent..gamma 1", "no option '--agent..gamma'"),
    (f"{TRAIN} --.seed 1", "no option '--.seed'"),
    (f"{TRAIN} --policy LstmPolicy", "MlpPolicy"),
    (f"{TRAIN} --frame-stack 0", "frame_stack=0"),
    # options given twice, or without a value, or as a whole
    (f"{TRAIN} --seed 1 --seed 2", "'--seed' is given twice"),
    (f"{TRAIN} --num-envs 1 --num_envs=1", "'--num_envs' is given twice"),
    (f"{TRAIN} --n-envs 1 --num-envs 1", "both given"),
    (f"{TRAIN} --agent.gamma 0.9 --agent.gamma 0.9", "given twice"),
    (f"{TRAIN} --agent 3 --agent.gamma 0.9", "both given"),
    (f"{TRAIN} --agent.gamma 0.9 --agent 3", "given twice"),
    (f"{TRAIN} --agent 3", "agent=3"),
    (f"{TRAIN} --agent.gamma.x 0.9", "agent.gamma="),
    (f"{TRAIN} --env.kwargs 3", "env.kwargs=3"),
    (f"{TRAIN} --env", "env=True"),
    (f"{TRAIN} --seed", "seed=True"),
    (f"{TRAIN} --seed --json", "seed=True"),
    (f"{TRAIN} --total-timesteps --no-progress", "total_timesteps=True"),
    (f"{TRAIN} --device", "device=True"),
    (f"{TRAIN} --stop-at-reward", "stop_at_reward=True"),
    (f"{TRAIN} --agent.gamma", "agent.gamma=True"),
    (f"{TRAIN} --agent.learning-rate", "agent.learning_rate=True"),
    (f"{TRAIN} --env.kwargs.gravity", "gravity=True is not a number"),
    (f"{TRAIN} --config", "'--config' needs a value"),
    (f"train ppo {CARTPOLE} --run-dir", "run_dir=True"),
    (f"{TRAIN} --json 5", "'5' is too much"),
    (f"{TRAIN} --json=yes", "'--json' takes no value"),
    # values
    *[(f"{TRAIN} --num-envs {value}", "num_envs=") for value in ("0", "-1", "1.5", "abc", "''", "'1 2'", LONG, "none")],
    *[(f"{TRAIN} --total-timesteps {value}", "total_timesteps=") for value in ("0", "-5", "1.5", "abc", "1e30", "inf")],
    *[(f"{TRAIN} --seed {value}", "seed=") for value in ("-1", "0.5", "x", "''", LONG, "9" * 5000, "[1]", "null")],
    (f"{TRAIN} --seed null", "seed='null'"),
    (f"{TRAIN} --total-timesteps 1M", "Write 1e6."),
    (f"{TRAIN} --total-timesteps 2.5k", "Write 2.5e3."),
    (f"{TRAIN} --agent.n-steps none", "agent.n_steps='none'"),
    *[(f"{TRAIN} --stop-at-reward {value}", "stop_at_reward=") for value in ("abc", "nan", "inf", "''", "true")],
    *[
        (f"{TRAIN} --agent.learning-rate {value}", "learning_rate=")
        for value in ("0", "-1", "abc", "nan", "inf", "lin_")
    ],
    *[(f"{TRAIN} --agent.gamma {value}", "gamma=") for value in ("1.5", "-1", "nan", "a", "''", "0,99")],
    *[(f"{TRAIN} --agent.gae-lambda {value}", "gae_lambda=") for value in ("2", "-0.1")],
    *[(f"{TRAIN} --agent.n-epochs {value}", "n_epochs=") for value in ("0", "-1", "2.5")],
    *[(f"{TRAIN} --agent.batch-size {value}", "batch_size=") for value in ("0", "-64", "all")],
    *[(f"{TRAIN} --agent.normalize-obs {value}", "normalize_obs=") for value in ("3", "maybe", "''")],
    *[(f"{TRAIN} --agent.policy-kwargs.net-arch {value}", "net_arch") for value in ("64", "[0]", "[64", "'64 64'")],
    (f"{TRAIN} --agent.policy-kwargs.activation-fn softmax", "'tanh', 'relu'"),
    (f"{TRAIN} --n-eval-episodes -1", "n_eval_episodes=-1"),
    (f"{TRAIN} --video-freq -1", "video_freq=-1"),
    (f"{TRAIN} --num-threads 0", "num_threads=0"),
    # devices
    (f"{TRAIN} --device foo", "no device 'foo'"),
    (f"{TRAIN} --device mps", "'mps' is not there: torch sees 0 MPS devices"),
    (f"{TRAIN} --device cpu:7", "'cpu:7' is not supported"),
    (f"{TRAIN} --device cuda:99", "'cuda:99' is not there"),
    ("eval run --device foo", "no device 'foo'"),
    ("eval run --device cuda:99", "'cuda:99' is not there"),
    (f"watch {CARTPOLE} --device foo", "no device 'foo'"),
    # what environments are made with
    (f"{TRAIN} --env.kwargs.gravty 1", "'gravity'"),
    (f"{TRAIN} --env.kwargs.base 1", "It takes: gravity"),
    *[(f"{TRAIN} --env.kwargs.gravity {value}", "gravity=") for value in ("-1", "abc", "nan", "[1]", "none", "''")],
    (f"{TRAIN} --env.kwargs.masscart 0", "above 0"),
    (f"{TRAIN} --env.kwargs.device cpu", "'device'"),
    (f"{TRAIN} --env.max_episode_steps 0", "max_episode_steps=0"),
    (f"{TRAIN} --env.kwargs.max_episode_steps 5", "--env.max-episode-steps"),
    # folders and files
    (f"train ppo {CARTPOLE} --run-dir file", "'file/rltrain-CartPole-v1'"),
    (f"train ppo {CARTPOLE} --run-dir file/x", "Not a directory"),
    (f"train ppo {CARTPOLE} --run-dir {'x' * 300}", "File name too long"),
    (f"{TRAIN} --config nowhere.yaml", "'nowhere.yaml' cannot be read: No such file"),
    (f"{TRAIN} --config empty", "'empty' cannot be read: Is a directory"),
    (f"{TRAIN} --config bad.yaml", "'bad.yaml' is not valid YAML in line 1"),
    (f"{TRAIN} --config date.yaml", "'date.yaml' is not valid YAML"),
    (f"{TRAIN} --config list.yaml", "'list.yaml' holds no settings"),
    (f"{TRAIN} --config void.yaml", "'void.yaml' holds no settings"),
    (f"{TRAIN} --config binary.yaml", "it is not text"),
    (f"{TRAIN} --config number.yaml", "env=3"),
    ("train --config number.yaml", "env=3"),
    ("train --config null.yaml", "agent=None"),
    ("train --config typo.yaml", "'gamma'"),
    # blank text, such as a variable of the shell that is not set
    (f"train '' {CARTPOLE}", "An argument is blank"),
    ("train ppo ''", "An argument is blank"),
    ("train ppo ' '", "An argument is blank"),
    (f"train ppo {CARTPOLE} --run-dir ''", "run_dir='' is blank"),
    (f"train ppo {CARTPOLE} --run-dir=", "run_dir='' is blank"),
    (f"train ppo {CARTPOLE} --run-dir '  '", "run_dir=' ' is blank"),
    *[
        (f"{TRAIN} --{name} ''", f"{name.replace('-', '_')}='' is blank")
        for name in ("device", "fallback-dir", "data", "reward-model", "init-from", "teacher", "cost.machine")
    ],
    *[
        (f"{TRAIN} --{name} ''", f"'--{name}' is given a blank value")
        for name in ("config", "zoo", "prices", "machine")
    ],
    *[
        (f"{verb} ''", "An argument is blank")
        for verb in ("check", "resume", "eval", "watch", "plot", "export", "show")
    ],
    *[
        (f"{verb} run {option} ''", f"'{option}' is given a blank value")
        for verb, option in (
            ("watch", "--out"),
            ("plot", "--out"),
            ("export", "--out"),
            ("record", "--out"),
            ("eval", "--checkpoint"),
            ("eval", "--env"),
            ("eval", "--data"),
            ("resume", "--trackers"),
            ("serve", "--token-file"),
        )
    ],
    ("eval run --checkpoint=", "'--checkpoint' is given a blank value"),
    (f"watch {CARTPOLE} --out ''", "'--out' is given a blank value"),
    ("runs --agent ''", "'--agent' is given a blank value"),
    # resume
    ("resume", "required: RUN"),
    ("resume run", "already been trained for 256 steps"),
    ("resume run --total-timesteps 256", "already been trained for 256 steps"),
    *[
        (f"resume run --total-timesteps {value}", "whole number of at least 1")
        for value in ("0", "-5", "1.5", "abc", "''")
    ],
    ("resume run --total-timesteps", "expected one argument"),
    ("resume run --total-timesteps 512 --trackers csvv", "'csv'"),
    ("resume run --total-timesteps 512 --trackers csv csv", "'csv' is there twice"),
    ("export run --to", "expected one argument"),
    ("export run --to zb3", "'sb3'"),
    ("trackers csvv", "'csv'"),
    ("trackers csv tensorboard", "'tensorboard' is too much"),
    ("trakers", "'trackers'"),
    ("resume run --total-timestep 5", "'--total-timesteps'"),
    ("resume run --agent.learning-rate 1e-4", f"train ppo {CARTPOLE} --init-from run --agent.learning-rate"),
    ("resume run --seed=3", f"train ppo {CARTPOLE} --init-from run --seed"),
    ("resume nowhere --seed 3", "train ALGO ENV --init-from nowhere --seed"),
    ("resume run --total-timesteps 512 --device cuda:99", "'cuda:99' is not there"),
    # eval
    ("eval", "required: RUN|ENV"),
    *[(f"eval run --episodes {value}", "whole number of at least 1") for value in ("0", "-1", "x", "1.5", "''", "inf")],
    *[(f"eval run --{option} 1{'0' * 30}", "not below 2**63") for option in ("seed", "episodes")],
    ("export run", "not said for which library"),
    (f"train ppo {CARTPOLE} --num-threads 1000000", "num_threads=1000000"),
    ("eval run --seed -1", "whole number of at least 0"),
    ("eval run --episode 3", "'--episodes'"),
    ("eval run --jsno", "'--json'"),
    ("eval run -n 3", "no option '-n'"),
    ("eval run --episodes 1 --episodes 2", "given twice"),
    ("eval run --json=1", "ignored explicit argument"),
    ("eval run run", "'run' is too much"),
    ("eval run --policy random", "'--policy' is for environments"),
    (f"eval {CARTPOLE} --policy best", "no policy 'best'"),
    (f"eval {CARTPOLE} --policy baseline", "CartPole has no baseline policy"),
    (f"eval {CARTPOLE} --checkpoint best", "has no checkpoints"),
    *[(f"{verb} {what} --env.kwargs.gravty 1", "'gravty'") for verb in ("eval", "watch") for what in ("run", CARTPOLE)],
    (f"eval {CARTPOLE} --env.kwargs.length [0.5,0.1]", "length=[0.5, 0.1] is not a range"),
    (f"eval {CARTPOLE} --env.kwargs.length [0.5,0.6,0.7]", "[low, high]"),
    # watch and plot
    ("watch run --policy random", "'--policy' is for environments"),
    ("watch", "required: RUN|ENV"),
    (f"watch {'x' * 300}", "no environment 'xxx"),
    ("watch nowhere", "no environment 'nowhere'"),
    ("watch rltrain/CartPol-v1", f"'{CARTPOLE}'"),
    *[(f"watch {what} --out film.avi", "'film.avi'") for what in ("run", CARTPOLE)],
    *[(f"watch {what} --out nowhere/film.gif", "'nowhere/film.gif' cannot be written") for what in ("run", CARTPOLE)],
    (f"watch {CARTPOLE} --checkpoint best", "has no checkpoints"),
    (f"watch {CARTPOLE} --seed x", "whole number"),
    ("plot", "required: RUN"),
    ("plot run --out curve.txt", "'curve.txt'"),
    ("plot run --out nowhere/curve.png", "'nowhere/curve.png' cannot be written"),
    # check and new-env
    ("check", "required: ENV"),
    ("check rltrain/CartPol-v1", f"'{CARTPOLE}'"),
    ("check CartPol-v1", "'CartPole-v1'"),
    ("check nowhere:Env-v0", "cannot be imported"),
    ("check broken_plugin:Env-v0", "division by zero"),
    ("check run", "no environment 'run'"),
    (f"check {CARTPOLE} extra", "'extra' is too much"),
    (f"check {CARTPOLE} --jsn", "'--json'"),
    (f"check {CARTPOLE} --device foo", "no device 'foo'"),
    (f"check {CARTPOLE} --env.kwargs.gravty 1", "'gravity'"),
    ("check CartPole-v1 --env.kwargs.gravty 1", "cannot be made"),
    ("new-env", "required: NAME"),
    ("new-env Walk", "such as walk."),
    ("new-env walk extra", "'extra' is too much"),
    ("new-env walk --out x", "no option '--out'"),
    ("new-env file", "'file' already exists"),
    ("new-env rltrain", "the namespace of other environments"),
    # envs and agents
    ("envs xyzzy", "no environment 'xyzzy'"),
    ("envs rltrain/CartPol-v1x", f"'{CARTPOLE}'"),
    ("envs a b", "'b' is too much"),
    ("envs --jsn", "'--json'"),
    ("agents xyzzy", "no agent 'xyzzy'"),
    ("agents pppo", "'ppo'"),
]
CHECKPOINT = [
    (f"eval {'x' * 300}", "File name too long"),
    ("resume run --total-timesteps 512 --nproc 4", "trained by 1 ranks, and here there are 4"),
    ("resume run extra", "no run folder 'extra'"),
    *[(f"{verb} nowhere", "no run folder 'nowhere'") for verb in ("resume", "eval")],
    ("plot nowhere", "There is no folder 'nowhere'"),
    ("plot file", "There is no folder 'file'"),
    ("plot empty", "There are no runs in 'empty'"),
    *[
        (f"{verb} {what}", f"'{what}' is not a run folder")
        for verb in ("resume", "eval", "watch")
        for what in ("empty", "file")
    ],
    *[(f"{verb} runs", "Did you mean 'runs/rltrain-CartPole-v1/ppo_1'?") for verb in ("resume", "eval", "watch")],
    *[(f"{verb} bare", "no checkpoint yet") for verb in ("resume", "eval", "watch")],
    *[(f"{verb} damaged", "policy.safetensors has 1 bytes") for verb in ("resume", "eval", "watch")],
    *[(f"{verb} strange", "unknown type 'Sphere'") for verb in ("eval", "watch")],
    ("resume strange --total-timesteps 999", "other spaces"),
    *[
        (f"{verb} unknown", "unknown/config.yaml' is damaged or was changed: There is no agent 'xyz'")
        for verb in ("resume", "eval")
    ],
    ("eval run/checkpoints", "Did you mean 'run'?"),
    ("eval run/config.yaml", "Did you mean 'run'?"),
    ("watch run/checkpoints/step_000000000256/policy.safetensors", "Did you mean 'run'?"),
    ("eval zip.zip", "rltrain import-sb3 zip.zip --env ENV"),
    ("eval run/checkpoints/step_000000000999", "no checkpoint '000000000999'"),
    ("resume run/checkpoints/step_x", "no checkpoint 'x'"),
    ("eval /nowhere/checkpoints/step_000000000001", "no run folder '/nowhere'"),
    *[(f"{verb} run --checkpoint best", "was not evaluated") for verb in ("eval", "watch")],
    *[(f"eval run --checkpoint {value}", "It has: latest, 256.") for value in ("999", "-1", "first", "1.5")],
    ("eval damaged --checkpoint 256", "Use --checkpoint latest"),
    (f"{TRAIN} --init-from nowhere", "no run folder 'nowhere'"),
    (f"{TRAIN} --init-from empty", "is not a run folder"),
    (f"{TRAIN} --init-from bare", "no checkpoint yet"),
    (f"{TRAIN} --init-from run --agent.policy-kwargs.net-arch [8]", "does not fit"),
    (
        "train ppo rltrain/Pendulum-v1 --run-dir out --init-from run --agent.policy-kwargs.net-arch [9]",
        "does not fit, no layer of it",
    ),
]
FAILED = [
    (f"{TRAIN} --agent.policy-kwargs.net-arch [1000000000000]", "smaller networks"),
    ("eval run --episodes 1000000000000000", "Use fewer --episodes"),
]


@pytest.mark.parametrize(
    ("line", "text", "code"),
    [(line, text, code) for code, cases in ((2, USAGE), (4, CHECKPOINT), (3, FAILED)) for line, text in cases],
    ids=lambda value: value[:70] if isinstance(value, str) else "",
)
def test_a_mistake(room: Room, capsys: pytest.CaptureFixture[str], line: str, text: str, code: int) -> None:
    before = room.contents()
    assert main(shlex.split(line)) == code
    output = capsys.readouterr()
    assert output.out == ""
    cause, fix = [
        line for line in output.err.splitlines() if not line.startswith(("settings: ", "warning: ", "note: "))
    ]
    assert cause.startswith("error: ")
    assert fix.startswith("  fix: ")
    assert text in f"{cause} {fix}"
    assert len(cause) < 600
    assert room.contents() == before


def test_debug_shows_where(room: Room) -> None:
    for line in ("trian --debug", "--debug trian", f"{TRAIN} --seed -1 --debug"):
        with pytest.raises(rltrain.errors.ConfigError):
            main(shlex.split(line))
    with pytest.raises(RuntimeError, match="memory"):
        main(shlex.split(f"{TRAIN} --agent.policy-kwargs.net-arch [1000000000000] --debug"))
    assert "RLTRAIN_DEBUG" not in os.environ  # what runs after it in this process is not concerned
    assert not (room.path / "out").exists()


def test_a_locked_run(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    holder = RunFolder(room.path / "run")
    holder.lock()
    try:
        before = room.contents()
        assert main(["resume", "run", "--total-timesteps", "999"]) == 3
        assert room.contents() == before
    finally:
        holder.release()
    assert capsys.readouterr().err == ("error: 'run' is in use by another process.\n  fix: Wait for it, or stop it.\n")


def test_a_damaged_record(room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (b"", b"{", b"[]", b"{}", b"\xff", b"3", None):
        run = Path(shutil.copytree(room.path / "run", tmp_path / str(content) / "ppo_1"))
        if content is None:
            os.remove(run / "metadata.json")
        else:
            (run / "metadata.json").write_bytes(content)
        played = [["eval", "--episodes", "1"]]
        trained = [["resume", "--total-timesteps", "999"]] if content is None else []
        for verb, *options in played + trained:
            with warnings.catch_warnings():
                assert main([verb, str(run), *options]) == 0, content
            assert "metadata.json' cannot be read" in capsys.readouterr().err, content
        for manifest in run.glob("checkpoints/*/manifest.json"):  # as older versions wrote them, without a copy
            old = json.loads(manifest.read_text())
            manifest.write_text(json.dumps({name: old[name] for name in ("format", "step", "files")}))
        (run / "metadata.json").write_bytes(content or b"")
        for words in (["resume", str(run), "--total-timesteps", "9999"], ["eval", str(run)]):
            assert main(words) == 4, content
            cause, fix = capsys.readouterr().err.splitlines()
            assert "metadata.json' cannot be read" in cause
            assert fix == "  fix: The run folder is damaged."


def fail(_: list[str]) -> None:
    """A verb that fails."""
    raise ZeroDivisionError("by\n  zero")


def interrupt(_: list[str]) -> None:
    """A verb in which Ctrl-C is pressed."""
    raise KeyboardInterrupt


@pytest.mark.usefixtures("clean_registries")
def test_an_unexpected_error_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    rltrain.register_verb("fail", f"{__name__}:fail")
    assert main(["fail"]) == 3
    assert capsys.readouterr().err == (
        "error: ZeroDivisionError: by zero\n  fix: Run the same command with --debug to see where.\n"
    )


@pytest.mark.usefixtures("clean_registries")
def test_ctrl_c_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rltrain.register_verb("interrupt", f"{__name__}:interrupt")
    assert main(["interrupt"]) == 130
    output = capsys.readouterr()
    assert output.out == output.err == ""


def test_a_run_that_fails_says_so(room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rate at which the loss overflows: exit code 3, and the record tells why."""
    words = (
        f"train ppo rltrain/Pendulum-v1 --run-dir '{tmp_path}' --agent.learning-rate 1e30 --agent.max-grad-norm 1e30"
    )
    words += " --num-envs 4 --agent.n-steps 16 --agent.batch-size 64 --total-timesteps 6400 --no-progress --json"
    assert main(shlex.split(words)) == 3
    output = capsys.readouterr()
    assert output.out == ""
    assert "error: The loss is not finite after 64 steps." in output.err
    assert "fix: Lower --agent.learning-rate" in output.err
    metadata = json.loads((tmp_path / "rltrain-Pendulum-v1" / "ppo_1" / "metadata.json").read_text())
    assert metadata["status"] == "failed"
    assert "The loss is not finite" in metadata["error"]
