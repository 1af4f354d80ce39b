"""Wrong inputs at both doors, the command line and Python: one line for the cause, one for the fix, nothing created."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rltrain
from rltrain.cli import main
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
from rltrain.make import make_vec
from rltrain.model_registry.store import Registry
from rltrain.recording.recorder import record
from tests.data.made import make as make_dataset
from tests.torture.commands import kept_folder
from tests.torture.frame import Case, Row

CARTPOLE = "rltrain/CartPole-v1"
TINY = {
    "total_timesteps": 256,
    "num_envs": 8,
    "n_eval_episodes": 0,
    "progress": False,
    "trackers": [],
    "num_threads": 1,
    "agent": {"n_steps": 32, "batch_size": 64, "n_epochs": 1},
}

# Words of the command line and the exit code; RUN is a whole run.
LINES = {
    "trian ppo X": 2,
    "''": 2,
    "train": 2,
    "train ppo": 2,
    "train ppo None": 2,
    f"train None {CARTPOLE}": 2,
    f"train 5 {CARTPOLE}": 2,
    "train ppo rltrain/CartPol-v1": 2,
    "train ppo nowhere:Env-v0": 2,
    "train ppo /etc/passwd": 2,
    f"train ppo {CARTPOLE} extra": 2,
    f"train ppo {CARTPOLE} --seed": 2,
    f"train ppo {CARTPOLE} --seed -1": 2,
    f"train ppo {CARTPOLE} --seed x": 2,
    f"train ppo {CARTPOLE} --seed 1 --seed 2": 2,
    f"train ppo {CARTPOLE} --sede 1": 2,
    f"train ppo {CARTPOLE} --num-envs 0": 2,
    f"train ppo {CARTPOLE} --num-envs 1.5": 2,
    f"train ppo {CARTPOLE} --num-envs nan": 2,
    f"train ppo {CARTPOLE} --total-timesteps 0": 2,
    f"train ppo {CARTPOLE} --total-timesteps -5": 2,
    f"train ppo {CARTPOLE} --device gpu": 2,
    f"train ppo {CARTPOLE} --device cuda:99": 2,
    f"train ppo {CARTPOLE} --trackers nowhere": 2,
    f"train ppo {CARTPOLE} --agent 3": 2,
    f"train ppo {CARTPOLE} --agent.gamma 2": 2,
    f"train ppo {CARTPOLE} --agent.gamma nan": 2,
    f"train ppo {CARTPOLE} --agent.learning-rate nan": 2,
    f"train ppo {CARTPOLE} --agent.learning-rate inf": 2,
    f"train ppo {CARTPOLE} --agent.learning-rate -1": 2,
    f"train ppo {CARTPOLE} --agent.learning-rate lin_": 2,
    f"train ppo {CARTPOLE} --agent.nothing 1": 2,
    f"train ppo {CARTPOLE} --agent.policy-kwargs.net-arch x": 2,
    f"train ppo {CARTPOLE} --env.kwargs.gravity x": 2,
    f"train ppo {CARTPOLE} --env.kwargs.nothing 1": 2,
    f"train ppo {CARTPOLE} --env.step-timeout 1": 2,
    "train ppo CartPole-v1 --env.step-timeout -1": 2,
    "train ppo CartPole-v1 --env.step-timeout 5 --env.vectorization sync": 2,
    f"train ppo {CARTPOLE} --env.frame-stack 0": 2,
    f"train ppo {CARTPOLE} --config nowhere.yaml": 2,
    f"train ppo {CARTPOLE} --init-from nowhere": 4,
    "train dqn rltrain/Pendulum-v1": 2,
    "resume nowhere": 4,
    "resume": 2,
    "resume RUN": 2,
    "resume RUN --total-timesteps 1": 2,
    "resume RUN --total-timesteps x": 2,
    "eval nowhere": 4,
    "eval RUN --checkpoint 7": 4,
    "eval RUN --checkpoint x": 4,
    "eval RUN --episodes 0": 2,
    "eval RUN --policy random": 2,
    f"eval {CARTPOLE} --policy nobody": 2,
    f"eval {CARTPOLE} --checkpoint best": 2,
    "watch RUN --out film.txt": 2,
    "watch nowhere": 2,
    "plot nowhere": 4,
    "export RUN --format nothing": 2,
    "export RUN": 2,
    "export RUN --to onnx --out x.txt": 2,
    "export RUN --to onnx --out .": 2,
    "export RUN --to onnx --checkpoint 7": 4,
    "export RUN --to onnx --episodes 3": 2,
    "export RUN --to pt2 --int8": 2,
    "export nowhere --to onnx": 4,
    "record": 2,
    "record RUN": 2,
    "record nowhere --out x": 4,
    "record RUN --out whole": 4,
    "record RUN --out a/b/c": 4,
    "record RUN --out x --checkpoint 7": 4,
    f"record {CARTPOLE} --out x --episodes 0": 2,
    f"record {CARTPOLE} --out x --policy nobody": 2,
    f"record {CARTPOLE} --out x --policy random=0": 2,
    f"record {CARTPOLE} --out x --policy random --policy random": 2,
    f"record {CARTPOLE} --out x --policy keyboard": 2,
    f"record {CARTPOLE} --out x --seed -1": 2,
    f"record {CARTPOLE} --out x --num-envs 0": 2,
    f"record {CARTPOLE} --out x --max-steps 0": 2,
    "record rltrain/Pendulum-v1 --out x --policy RUN": 2,
    "data": 2,
    "data shwo DATA": 2,
    "data show nowhere": 4,
    "data show RUN": 4,
    "data check": 2,
    "data check nowhere": 4,
    "data check DATA --reward-range 1": 2,
    "data split DATA a=0 --out x": 2,
    "data split DATA a --out x": 2,
    "data split DATA a=1 a=1 --out x": 2,
    "data split DATA ../a=1 --out x": 2,
    "data split DATA a=0.999999 b=0.000001 --out x": 2,
    "data split DATA --out x --by nobody": 2,
    "data split DATA --out whole": 4,
    "data split DATA a=1 b=1 --out a/b/c": 4,
    "data import": 2,
    "data import t.csv --out x": 2,
    "data import nowhere.csv --mapping nowhere.yaml --out x": 2,
    "data import nowhere --out x": 4,
    "data export DATA": 2,
    "data export DATA --to xml --out x": 2,
    "data export DATA --to csv": 2,
    "data export DATA --to csv --out x.parquet": 2,
    "data export DATA --to csv --out x.csv": 4,
    "data export DATA --to minari --out x --id ..": 4,
    "data delete DATA": 2,
    "data delete DATA --where x": 2,
    "data delete DATA --where nobody=1": 2,
    "data delete DATA --where policy=nobody": 2,
    "data delete nowhere --where policy=x": 4,
    f"train bc {CARTPOLE} --data nowhere": 4,
    f"train bc {CARTPOLE}": 2,
    f"train bc {CARTPOLE} --data DATA": 4,
    f"train ppo {CARTPOLE} --data DATA": 2,
    f"train ppo {CARTPOLE} --teacher nowhere": 4,
    f"train ppo {CARTPOLE} --freeze nothing": 2,
    f"train ppo {CARTPOLE} --learning-rate-scale.nothing 2": 2,
    f"train dqn {CARTPOLE} --agent.n-sampled-goal 4": 2,
    "models": 2,
    "models lits": 2,
    "models list": 4,
    "models register": 2,
    "models register a/b RUN": 2,
    "models register .. RUN": 2,
    "models register cart nowhere": 4,
    "models register cart RUN --checkpoint 7": 4,
    "models register cart RUN --card nowhere": 2,
    "models register cart RUN --key-file nowhere": 2,
    "models register cart@1 RUN": 2,
    "models show cart": 2,
    "models path cart@9": 2,
    "models alias cart@1": 2,
    "models alias cart@1 2": 2,
    "models promote cart": 2,
    "models promote cart --gate nowhere": 2,
    "models rollback cart": 2,
    "models list --gate x": 2,
    "sweep": 2,
    "sweep ppo": 2,
    f"sweep poo {CARTPOLE}": 2,
    f"sweep ppo {CARTPOLE} --trials 0": 2,
    f"sweep ppo {CARTPOLE} --trials x": 2,
    f"sweep ppo {CARTPOLE} --jobs 0": 2,
    f"sweep ppo {CARTPOLE} --seeds 1.5": 2,
    f"sweep ppo {CARTPOLE} --sampler nobody": 2,
    f"sweep ppo {CARTPOLE} --pruner nobody": 2,
    f"sweep ppo {CARTPOLE} --space nowhere.yaml": 2,
    f"sweep ppo {CARTPOLE} --trackers csv": 2,
    f"sweep ppo {CARTPOLE} --num-seeds 2": 2,
    f"sweep ppo {CARTPOLE} --agent.nothing 1": 2,
    f"sweep ppo {CARTPOLE} --out": 2,
    "report": 2,
    "report nowhere": 4,
    "report RUN --out x.txt": 2,
    "report RUN --out a/b.html": 2,
    "compare RUN": 2,
    "compare RUN nowhere": 4,
    "compare RUN RUN": 4,
    "runs nowhere": 4,
    "runs whole --status x": 2,
    "runs whole --sort x": 2,
    "runs whole --where x": 2,
    "show": 2,
    "show nowhere": 4,
    "show DATA": 4,
    "rm nowhere": 4,
    "rm DATA": 4,
    "serve": 2,
    "serve nowhere": 4,
    "serve RUN --port 99999999": 2,
    "serve RUN --port x": 2,
    "serve RUN --host x": 2,
    "serve RUN --host 0.0.0.0": 2,
    "serve RUN --token-file nowhere": 2,
    "serve RUN --checkpoint 7": 4,
    "serve nowhere.onnx": 4,
    "serve RUN --log-limit 5": 2,
    "serve RUN --log-decisions RUN/config.yaml": 2,
    "estimate": 2,
    "estimate ppo": 2,
    f"estimate poo {CARTPOLE}": 2,
    f"estimate ppo {CARTPOLE} --seconds 0": 2,
    f"estimate ppo {CARTPOLE} --seconds x": 2,
    f"estimate ppo {CARTPOLE} --prices nowhere.yaml": 2,
    f"estimate ppo {CARTPOLE} --num-seeds 2": 2,
    "estimate --compare nowhere.yaml": 2,
    "estimate --example nothing": 2,
    "cloud": 2,
    f"cloud nowhere ppo {CARTPOLE}": 2,
    "cloud skypilot": 2,
    f"cloud skypilot ppo {CARTPOLE} --gpus x": 2,
    f"cloud skypilot ppo {CARTPOLE} --max-hours 0": 2,
    f"cloud skypilot ppo {CARTPOLE} --name 'a b'": 2,
    f"cloud skypilot ppo {CARTPOLE} --nproc 2": 2,
    f"cloud skypilot ppo {CARTPOLE} --image x --out a/b.yaml": 2,
    f"cloud azureml ppo {CARTPOLE} --region x": 2,
    "preferences": 2,
    "preferences akt": 2,
    "preferences ask": 2,
    "preferences ask x": 2,
    "preferences ask x nowhere": 4,
    f"preferences ask x {CARTPOLE} --pairs 0": 2,
    "preferences ask x rltrain/Pendulum-v1 --segment 9999 --episodes 4": 2,
    f"preferences ask x {CARTPOLE} --policy nobody": 2,
    "preferences fit nowhere": 4,
    "preferences fit nowhere --members 0": 2,
    "preferences label nowhere": 4,
    "preferences label nowhere --error-rate 0.1": 2,
    "preferences label nowhere --oracle --question x": 2,
    "preferences show nowhere": 4,
    "preferences export nowhere": 2,
    "preferences export nowhere --to label-studio --out x": 4,
    "preferences import nowhere": 4,
    "preferences import nowhere --from nobody": 2,
    f"preferences train x ppo {CARTPOLE} --rounds 0": 2,
    f"preferences train x ppo {CARTPOLE} --rounds 9 --pairs 2": 2,
    f"preferences train x ppo {CARTPOLE} --total-timesteps 3": 2,
    f"preferences train x ppo {CARTPOLE} --num-seeds 2": 2,
    f"preferences train x poo {CARTPOLE}": 2,
    f"train ppo {CARTPOLE} --reward-model nowhere": 4,
    f"train ppo {CARTPOLE} --reward-model RUN": 4,
    f"train iql {CARTPOLE}": 2,
    f"train iql {CARTPOLE} --data nowhere": 4,
    f"train iql {CARTPOLE} --agent.expectile 2": 2,
    f"train cql {CARTPOLE}": 2,
    f"train cql {CARTPOLE} --data RUN": 4,
    "retrain": 2,
    "retrain nowhere.yaml": 2,
    "retrain RUN/config.yaml": 2,
    "retrain RUN": 2,
    "hub": 2,
    "hub lits": 2,
    "hub push": 2,
    "hub push cart a/b": 2,
    "hub pull a/b": 2,
    "hub pull a --out x": 2,
    "hub pull a/b --out x --max-bytes 0": 2,
    "hub pull a/b --out x --card y": 2,
    "drift": 2,
    "drift DATA": 2,
    "drift DATA nowhere": 4,
    "drift DATA DATA --delta x": 2,
    "drift DATA DATA --detector nobody": 2,
    "data lineage": 2,
    "data lineage nowhere": 4,
    "eval RUN --data nowhere": 4,
    f"eval {CARTPOLE} --data DATA": 2,
    "eval RUN --data DATA": 4,
    "eval RUN --behaviour RUN": 2,
    "import-sb3": 2,
    "import-sb3 nowhere.zip": 2,
    f"import-sb3 nowhere.zip --env {CARTPOLE}": 4,
    f"import-sb3 RUN --env {CARTPOLE}": 4,
    "new-env": 2,
    "new-env Walk": 2,
    "new-env a/b": 2,
    "new-env whole": 2,
    "tensorboard nowhere": 2,
    "completion nothing": 2,
    "trackers nowhere": 2,
    "envs nowhere": 2,
    "agents nowhere": 2,
    "check nowhere": 2,
}


class NoEnvironment:
    """A class that is no environment."""


def door(function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[Path], Any]:
    """A call of Python, given the folder of a whole run in place of ``RUN``."""
    return lambda run: function(*(run if x is RUN else x for x in arguments), **options)


RUN = object()


def train(*arguments: Any, **options: Any) -> Any:
    """rltrain.train with few steps."""
    return rltrain.train(*arguments, **{**TINY, **options})


def predict(obs: Any) -> Callable[[Path], Any]:
    """A policy that is given an observation."""
    return lambda run: rltrain.load(run).predict(obs)


CALLS: dict[str, Callable[[Path], Any]] = {
    "train with tensors that are made": lambda run: train("ppo", rltrain.make_env(CARTPOLE)),
    "train with a vector environment": lambda run: train("ppo", make_vec(CARTPOLE, 2)),
    "train in None": door(train, "ppo", None),
    "train in 5": door(train, "ppo", 5),
    "train in a list": door(train, "ppo", [CARTPOLE]),
    "train in a class that is none": door(train, "ppo", NoEnvironment),
    "train in int": door(train, "ppo", int),
    "train with no agent": door(train, None, CARTPOLE),
    "train with 5 as agent": door(train, 5, CARTPOLE),
    "train with a list of agents": door(train, ["ppo"], CARTPOLE),
    "train with a class as agent": door(train, NoEnvironment, CARTPOLE),
    "train with a wrong agent": door(train, "poo", CARTPOLE),
    "one callback": door(train, "ppo", CARTPOLE, callbacks=rltrain.Callback()),
    "callbacks=None": door(train, "ppo", CARTPOLE, callbacks=None),
    "callbacks=5": door(train, "ppo", CARTPOLE, callbacks=5),
    "a function as callback": door(train, "ppo", CARTPOLE, callbacks=[print]),
    "a class as callback": door(train, "ppo", CARTPOLE, callbacks=[rltrain.Callback]),
    "agent=5": door(train, "ppo", CARTPOLE, agent=5),
    "agent=None": door(train, "ppo", CARTPOLE, agent=None),
    "gamma=None": door(train, "ppo", CARTPOLE, agent={"gamma": None}),
    "gamma='x'": door(train, "ppo", CARTPOLE, agent={"gamma": "x"}),
    "learning_rate=nan": door(train, "ppo", CARTPOLE, agent={"learning_rate": float("nan")}),
    "env_kwargs=5": door(train, "ppo", CARTPOLE, env_kwargs=5),
    "env_kwargs={1: 2}": door(train, "ppo", CARTPOLE, env_kwargs={1: 2}),
    "env_options=5": door(train, "ppo", CARTPOLE, env_options=5),
    "total_timesteps=None": door(train, "ppo", CARTPOLE, total_timesteps=None),
    "total_timesteps='many'": door(train, "ppo", CARTPOLE, total_timesteps="many"),
    "num_envs=True": door(train, "ppo", CARTPOLE, num_envs=True),
    "trackers=5": door(train, "ppo", CARTPOLE, trackers=5),
    "trackers=[None]": door(train, "ppo", CARTPOLE, trackers=[None]),
    "seed=[1, 2]": door(train, "ppo", CARTPOLE, seed=[1, 2]),
    "device=5": door(train, "ppo", CARTPOLE, device=5),
    "run_dir=5": door(train, "ppo", CARTPOLE, run_dir=5),
    "nothing=1": door(train, "ppo", CARTPOLE, nothing=1),
    "init_from=5": door(train, "ppo", CARTPOLE, init_from=5),
    "num_seeds=0": door(rltrain.train_seeds, "ppo", CARTPOLE, 0),
    "num_seeds='two'": door(rltrain.train_seeds, "ppo", CARTPOLE, "two"),
    "num_seeds=None": door(rltrain.train_seeds, "ppo", CARTPOLE, None),
    "load(5)": door(rltrain.load, 5),
    "load(None)": door(rltrain.load, None),
    "load('')": door(rltrain.load, ""),
    "load([])": door(rltrain.load, []),
    "load, checkpoint=None": door(rltrain.load, RUN, checkpoint=None),
    "load, checkpoint=1.5": door(rltrain.load, RUN, checkpoint=1.5),
    "load, checkpoint='x'": door(rltrain.load, RUN, checkpoint="x"),
    "load, device=5": door(rltrain.load, RUN, device=5),
    "load, device=None": door(rltrain.load, RUN, device=None),
    "load, classes=5": door(rltrain.load, RUN, classes=5),
    "load, env=5, evaluated": lambda run: rltrain.load(run, env=5).evaluate(1),  # type: ignore[arg-type]
    "resume(None)": door(rltrain.resume, None),
    "resume(5)": door(rltrain.resume, 5),
    "resume what is over": door(rltrain.resume, RUN),
    "resume, total_timesteps='x'": door(rltrain.resume, RUN, total_timesteps="x"),
    "resume, callbacks": door(rltrain.resume, RUN, total_timesteps=512, callbacks=rltrain.Callback()),
    "resume, trackers=5": door(rltrain.resume, RUN, total_timesteps=512, trackers=5),
    "resume, nproc='x'": door(rltrain.resume, RUN, total_timesteps=512, nproc="x"),
    "evaluate(None)": door(rltrain.evaluate, None),
    "evaluate(5)": door(rltrain.evaluate, 5, CARTPOLE),
    "evaluate in None": door(rltrain.evaluate, "random", None),
    "evaluate in 5": door(rltrain.evaluate, "random", 5),
    "evaluate, no episodes": door(rltrain.evaluate, "random", CARTPOLE, 0),
    "evaluate, episodes='x'": door(rltrain.evaluate, "random", CARTPOLE, "x"),
    "make_vec(None)": door(make_vec, None, 2),
    "make_vec(5)": door(make_vec, 5, 2),
    "make_vec, num_envs=None": door(make_vec, CARTPOLE, None),
    "make_vec, num_envs='x'": door(make_vec, CARTPOLE, "x"),
    "make_env(None)": door(rltrain.make_env, None),
    "make_env of a class that is none": door(rltrain.make_env, NoEnvironment),
    "record in None": lambda run: record(None, run.parent / "x"),  # type: ignore[arg-type]
    "record in 5": lambda run: record(5, run.parent / "x"),  # type: ignore[arg-type]
    "record to 5": door(record, CARTPOLE, 5),
    "record, episodes=0": lambda run: record(CARTPOLE, run.parent / "x", episodes=0),
    "record, episodes='x'": lambda run: record(CARTPOLE, run.parent / "x", episodes="x"),  # type: ignore[arg-type]
    "record, policies='random'": lambda run: record(CARTPOLE, run.parent / "x", policies="random"),
    "record, policies=5": lambda run: record(CARTPOLE, run.parent / "x", policies=5),  # type: ignore[arg-type]
    "record, num_envs='x'": lambda run: record(CARTPOLE, run.parent / "x", num_envs="x"),  # type: ignore[arg-type]
    "record, nothing=1": lambda run: record(CARTPOLE, run.parent / "x", nothing=1),
    "record, device='x'": lambda run: record(CARTPOLE, run.parent / "x", device="x"),
    "Dataset.open(5)": door(Dataset.open, 5),
    "Dataset.open(None)": door(Dataset.open, None),
    "Dataset.open of a run": door(Dataset.open, RUN),
    "DatasetWriter without spaces": lambda run: DatasetWriter(run.parent / "x", None, None),  # type: ignore[arg-type]
    "DatasetWriter to 5": lambda run: DatasetWriter(5, None, None),  # type: ignore[arg-type]
    "Registry(5)": door(Registry, 5, "cart"),
    "Registry of no name": door(Registry, "models", 5),
    "Registry with a bad name": door(Registry, "models", "a/b"),
    "register(5)": lambda run: Registry(run.parent / "models", "cart").register(5),  # type: ignore[arg-type]
    "register, checkpoint=5": lambda run: Registry(run.parent / "models", "cart").register(run, checkpoint=5),  # type: ignore[arg-type]
    "resume_seeds(None)": door(rltrain.resume_seeds, None),
    "resume_seeds of text": lambda run: rltrain.resume_seeds(str(run)),
    "resume_seeds of none": door(rltrain.resume_seeds, []),
    "resume_seeds of numbers": door(rltrain.resume_seeds, [5]),
    "check_env(5)": door(rltrain.check_env, 5),
    "check_env(None)": door(rltrain.check_env, None),
    "check_vec_env(5)": door(rltrain.check_vec_env, 5),
    "StopAtThreshold('x')": door(rltrain.StopAtThreshold, "x"),
    "StopAtThreshold(nan)": door(rltrain.StopAtThreshold, float("nan")),
    "StopAtThreshold, times=0": door(rltrain.StopAtThreshold, 1.0, times=0),
    "StopAtThreshold, tag=5": door(rltrain.StopAtThreshold, 1.0, 5),
    "StopAtThreshold, no evaluations": door(train, "ppo", CARTPOLE, callbacks=[rltrain.StopAtThreshold(1.0)]),
    "StopOnPlateau(None)": door(rltrain.StopOnPlateau, None),
    "StopOnPlateau(-1)": door(rltrain.StopOnPlateau, -1),
    "StopOnPlateau, min_delta=nan": door(rltrain.StopOnPlateau, 1, min_delta=float("nan")),
    "StopAfter()": door(rltrain.StopAfter),
    "StopAfter, seconds='x'": door(rltrain.StopAfter, seconds="x"),
    "StopAfter, seconds=nan": door(rltrain.StopAfter, seconds=float("nan")),
    "KeepBest(None)": door(rltrain.KeepBest, None),
    "KeepBest('x')": door(rltrain.KeepBest, "x"),
    "SaveEvery(0)": door(rltrain.SaveEvery, 0),
    "SaveEvery('x')": door(rltrain.SaveEvery, "x"),
    "EvaluateOn, every=0": door(rltrain.EvaluateOn, "test", every=0),
    "EvaluateOn, every='x'": door(rltrain.EvaluateOn, "test", every="x"),
    "EvaluateOn, episodes=1.5": door(rltrain.EvaluateOn, "test", every=100, episodes=1.5),
    "EvaluateOn(5)": door(rltrain.EvaluateOn, 5, every=100),
    "register_env to 5": door(rltrain.register_env, "mine/Env-v0", 5),
    "register_env(5)": door(rltrain.register_env, 5, NoEnvironment),
    "register_agent(5)": door(rltrain.register_agent, 5, "a:B", "a:C"),
    "predict NaN": predict(np.array([0, np.nan, 0, 0], np.float32)),
    "predict infinity": predict(torch.tensor([0, float("inf"), 0, 0])),
    "predict a batch with NaN": predict(np.array([[0.0] * 4, [np.nan] * 4], np.float32)),
    "predict None": predict(None),
    "predict text": predict("left"),
    "predict words": predict(["a", "b", "c", "d"]),
    "predict a ragged list": predict([[1.0, 2.0], [3.0]]),
    "predict too few": predict(np.zeros(3, np.float32)),
    "predict a dict": predict({"obs": np.zeros(4, np.float32)}),
}


def line_case(line: str, code: int) -> Case:
    """A command line."""

    def case(folder: Path) -> None:
        run = the_run(folder)
        if "DATA" in line:
            make_dataset(folder / "dataset")
        words = [word.replace("RUN", str(run)).replace("DATA", str(folder / "dataset")) for word in shlex.split(line)]
        if words[:1] == ["train"]:
            words += ["--run-dir", "out"]
        before = contents(folder)
        said, printed = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
            got = main(words)
        assert got == code, f"exit code {got} instead of {code}: {said.getvalue()}"
        lines = [x for x in said.getvalue().splitlines() if x.startswith(("error: ", "  fix: "))]
        assert [x[:7] for x in lines] == ["error: ", "  fix: "], said.getvalue()
        assert "Traceback" not in said.getvalue()
        assert contents(folder) == before, "something was created"

    return case


def call_case(call: Callable[[Path], Any]) -> Case:
    """A call of Python."""

    def case(folder: Path) -> None:
        run = the_run(folder)
        before = contents(folder)
        error = error_of(call, run)
        assert error is not None, "it was taken"
        assert error.cause, "no cause"
        assert error.fix, f"no fix: {error.cause}"
        assert len(error.cause.splitlines()) == 1, error.cause
        assert contents(folder) == before, "something was created"

    return case


def error_of(call: Callable[[Path], Any], run: Path) -> rltrain.RLTrainError | None:
    """The error of a call, if it is one of ours; others go on."""
    try:
        call(run)
    except rltrain.RLTrainError as error:
        return error
    return None


def the_run(folder: Path) -> Path:
    """A whole run in the folder, which becomes the current one."""
    os.chdir(folder)
    whole = Path(shutil.copytree(_whole(), folder / "whole"))
    return next(whole.glob("*/*"))


@functools.cache
def _whole() -> Path:
    """A folder with a run, made once for all cases."""
    folder = kept_folder("torture-whole-")
    rltrain.train("ppo", CARTPOLE, run_dir=folder, **TINY)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files in a folder except locks."""
    files = (path for path in folder.rglob("*") if path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in files}


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """All of them; in the short form eight of each door."""
    _whole()
    lines, calls = [*LINES], [*CALLS]
    if short:
        lines, calls = rng.sample(lines, 8), rng.sample(calls, 8)
    for line in lines:
        yield f"rltrain {line}", line_case(line, LINES[line])
    for name in calls:
        yield f"Python: {name}", call_case(CALLS[name])


ROW = Row(
    7,
    f"{len(LINES)} wrong command lines and {len(CALLS)} wrong calls of Python",
    "right exit code or an RLTrainError, cause and fix in a line each, no traceback, nothing created",
    cases,
    {"^rltrain": 140, "^Python": 60},
    seconds=60,
)
