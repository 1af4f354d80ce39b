"""Policies convert to Stable-Baselines3 and back, act the same on both sides, and carry no code."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from countdown import Countdown
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from torch import Tensor

import rltrain
from rltrain.cli import main
from rltrain.env import TensorEnv
from rltrain.errors import CheckpointError, ConfigError
from rltrain.make import make_vec
from rltrain.sb3.archive import Archive, readable
from rltrain.sb3.exporter import export
from rltrain.sb3.importer import import_sb3
from rltrain.sb3.vec_env import make_sb3_vec

CARTPOLE, PENDULUM, BREAKOUT = "rltrain/CartPole-v1", "rltrain/Pendulum-v1", "rltrain/MinAtar-Breakout-v1"
AGENT: dict[str, Any] = {"n_steps": 16, "batch_size": 64, "n_epochs": 2}
PLAIN = {"normalize_obs": False, "normalize_reward": False}
UNEVEN = {"ortho_init": False}  # so that an untrained policy does not do the same everywhere
ELSEWHERE = """
import json, sys
sys.path[:] = [path for path in sys.path if "rltrain" not in path]
sys.meta_path = [finder for finder in sys.meta_path if "rltrain" not in repr(finder)]
import numpy as np, stable_baselines3
algorithm, zipped, statistics, observations, out = sys.argv[1:]
model = getattr(stable_baselines3, algorithm).load(zipped, device="cpu")
loaded = np.load(observations)
obs = {name: loaded[name] for name in loaded.files}
obs = obs["all"] if "all" in obs else obs
if statistics:
    import pickle
    normalizer = pickle.load(open(statistics, "rb"))
    obs = normalizer.normalize_obs(obs)
actions, _ = model.predict(obs, deterministic=True)
assert not any(name.partition(".")[0] == "rltrain" for name in sys.modules), "it needs rltrain"
np.savez(out, actions=actions, n_steps=getattr(model, "n_steps", 0), gamma=model.gamma)
"""


@dataclass
class OddState:
    x: Tensor  # (N, 3)


class Odd(TensorEnv[OddState]):
    """Observations and actions of a kind to choose, and no rules."""

    max_episode_steps = 4

    def __init__(self, *, sees: str = "box", acts: str = "box", **base: Any) -> None:
        super().__init__(**base)
        self.sees = sees
        self.observation_space = {
            "box": spaces.Box(-5.0, 5.0, (3,)),
            "binary": spaces.MultiBinary(3),
            "multi": spaces.MultiDiscrete([4, 4, 4]),
            "flat": spaces.Box(0, 1, (3, 2, 5), np.uint8),
            "dict": spaces.Dict({"b": spaces.Box(-5.0, 5.0, (3,)), "a": spaces.Discrete(4)}),
            "image": spaces.Box(0, 255, (36, 40, 3), np.uint8),
            "first": spaces.Box(0, 255, (2, 38, 38), np.uint8),
            "number": spaces.Box(-5.0, 5.0, ()),
        }[sees]
        self.action_space = {
            "box": spaces.Box(-2.0, 3.0, (2,)),
            "matrix": spaces.Box(-1.0, 1.0, (2, 2)),
            "discrete": spaces.Discrete(5),
            "multi": spaces.MultiDiscrete([3, 2]),
            "binary": spaces.MultiBinary(4),
        }[acts]

    def reset(self, n: int, rng: torch.Generator | None) -> OddState:
        return OddState(torch.rand(n, 3, generator=rng))

    def step(self, state: OddState, action: Tensor, rng: torch.Generator | None) -> tuple[OddState, Tensor, Tensor]:
        x = torch.rand(state.x.shape, generator=rng)
        return OddState(x), x.sum(1), torch.zeros(len(x), dtype=torch.bool)

    def observe(self, state: OddState) -> Any:
        x = state.x
        match self.sees:
            case "box":
                return 10 * x - 5
            case "binary":
                return (x > 0.5).to(torch.int8)
            case "multi":
                return (4 * x).to(torch.int64)
            case "dict":
                return {"b": 10 * x - 5, "a": (4 * x[:, 0]).to(torch.int64)}
            case "number":
                return x[:, 0]
        shape, top = self.observation_space.shape, 2 if self.sees == "flat" else 256
        assert shape is not None
        noise = (x.sum(1) * 7919).view(-1, *(1,) * len(shape)) * torch.arange(1, 1 + int(np.prod(shape))).view(shape)
        return (noise % top).to(torch.uint8)


def trained(env: Any, run_dir: Path, agent: dict[str, Any] | None = None, algo: str = "ppo", **options: Any) -> Path:
    given = {"total_timesteps": 512, "num_envs": 16, "n_eval_episodes": 0, **options}
    return rltrain.train(algo, env, progress=False, run_dir=run_dir, agent={**AGENT, **(agent or {})}, **given).run_dir


def observations(env: Any, n: int = 200, **kwargs: Any) -> Any:
    """Of all sorts, in NumPy."""
    vec = make_vec(env, n, **kwargs)
    if env in (CARTPOLE, "rltrain/FrozenLake-v1"):  # which start alike everywhere
        space, rng = vec.single_observation_space, np.random.default_rng(0)
        return rng.integers(16, size=n) if space.shape == () else rng.normal(size=(n, 4)).astype(np.float32)
    obs = vec.reset(seed=11)
    return {name: part.numpy() for name, part in obs.items()} if isinstance(obs, dict) else obs.numpy()


def act_elsewhere(algorithm: str, written: list[Path], obs: Any, folder: Path) -> Any:
    """What Stable-Baselines3 answers in a process that has no rltrain."""
    seen, out = folder / "observations.npz", folder / "actions.npz"
    np.savez(seen, **(obs if isinstance(obs, dict) else {"all": obs}))
    statistics = str(written[1]) if len(written) > 1 else ""
    command = [sys.executable, "-I", "-c", ELSEWHERE, algorithm, str(written[0]), statistics, str(seen), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return np.load(out)


@pytest.mark.parametrize(
    ("env", "agent", "kwargs"),
    [
        (
            CARTPOLE,
            {"policy_kwargs": {"net_arch": {"pi": [24], "vf": [32, 16]}, "activation_fn": "relu", **UNEVEN}},
            {},
        ),
        (PENDULUM, {"normalize_obs": True, "normalize_reward": True}, {}),
        (PENDULUM, {"policy_kwargs": {"net_arch": [], "log_std_init": -1}, "learning_rate": "lin_0.01", **PLAIN}, {}),
        ("rltrain/FrozenLake-v1", {"policy_kwargs": {"activation_fn": "silu", **UNEVEN}}, {}),
        (Odd, {"policy_kwargs": {"activation_fn": "leaky_relu"}}, {"acts": "multi"}),
        (Odd, {}, {"sees": "binary", "acts": "binary"}),
        (Odd, {}, {"sees": "multi", "acts": "matrix"}),
        (Odd, {"policy_kwargs": {"features_extractor_class": "flatten"}}, {"sees": "image", "acts": "discrete"}),
        (Odd, {"normalize_obs": True}, {"sees": "dict", "acts": "discrete"}),
        (Odd, {"policy_kwargs": {"net_arch": [8]}}, {"sees": "image"}),
        (Odd, {"policy_kwargs": {"net_arch": [8]}}, {"sees": "first"}),
    ],
)
def test_an_exported_policy_acts_the_same_without_us(
    env: Any, agent: dict[str, Any], kwargs: dict[str, Any], tmp_path: Path
) -> None:
    run = trained(env, tmp_path, agent, env_kwargs=kwargs)
    policy = rltrain.load(run, env=None if isinstance(env, str) else env)
    if agent.get("policy_kwargs", {}).get("features_extractor_class"):
        with pytest.raises(ConfigError, match="features_extractor_class flatten for images"):
            export(run)
        return
    algorithm, written = export(run, tmp_path / "out" / "policy.zip")
    assert len(written) == (2 if agent.get("normalize_obs") else 1)
    obs = observations(env, **kwargs)
    there = act_elsewhere(algorithm, written, obs, tmp_path)
    ours, _ = policy.predict(obs)
    assert np.ptp(ours.astype(float), axis=0).max() > 0  # it does look at what it sees
    assert np.abs(there["actions"].astype(float) - ours.astype(float)).max() <= 1e-6
    assert (there["n_steps"], there["gamma"]) == (16, policy.config.agent.gamma)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("env", "agent", "kwargs"),
    [
        (CARTPOLE, {"policy_kwargs": {"net_arch": [24, 16], "activation_fn": "tanh"}, "double_q": True}, {}),
        ("rltrain/FrozenLake-v1", {"policy_kwargs": {"net_arch": []}, "prioritized_replay": True}, {}),
        (Odd, {"policy_kwargs": {"net_arch": [8]}}, {"sees": "image", "acts": "discrete"}),
    ],
)
def test_an_exported_dqn_acts_the_same_without_us(
    env: Any, agent: dict[str, Any], kwargs: dict[str, Any], tmp_path: Path
) -> None:
    agent = {"learning_starts": 32, "batch_size": 16, "buffer_size": 500, "learning_rate": 0.01, "n_steps": 2, **agent}
    agent["exploration_final_eps"] = 0.03
    options = {"total_timesteps": 200, "num_envs": 4, "n_eval_episodes": 0, "env_kwargs": kwargs}
    run = rltrain.train("dqn", env, progress=False, run_dir=tmp_path, agent=agent, **options).run_dir
    algorithm, written = export(run)
    obs = observations(env, **kwargs)
    there = act_elsewhere(algorithm, written, obs, tmp_path)
    ours, _ = rltrain.load(run, env=None if isinstance(env, str) else env).predict(obs)
    assert np.array_equal(there["actions"], ours)
    assert env is Odd or np.ptp(ours) > 0
    model = DQN.load(written[0], device="cpu")
    assert (model.n_steps, model.batch_size, model.exploration_rate) == (2, 16, 0.03)
    mine: Any = rltrain.load(run).agent
    if env == CARTPOLE:
        with torch.no_grad():
            for theirs, network in ((model.q_net, mine.policy), (model.q_net_target, mine.target)):
                assert torch.allclose(theirs(torch.from_numpy(obs)), network(torch.from_numpy(obs)), atol=1e-6)
        back = rltrain.load(import_sb3(written[0], CARTPOLE, run_dir=str(tmp_path))).agent.state_dict()
        assert all(torch.equal(tensor, back[name]) for name, tensor in mine.state_dict().items())


SDE = {"use_sde": True, "sde_sample_freq": 4, "policy_kwargs": {"net_arch": {"pi": [16, 8], "qf": [8]}}}


@pytest.mark.parametrize(
    ("env", "agent", "kwargs"),
    [
        (PENDULUM, {"policy_kwargs": {"net_arch": {"pi": [24, 16], "qf": [8]}, "n_critics": 3}, "ent_coef": 0.2}, {}),
        (PENDULUM, {"normalize_obs": True, "normalize_reward": True, "ent_coef": "auto_0.3", "n_steps": 2}, {}),
        (PENDULUM, SDE, {}),
        (PENDULUM, {"use_sde": True, "policy_kwargs": {"net_arch": [8], "clip_mean": 0.0, "use_expln": True}}, {}),
        (Odd, {"policy_kwargs": {"net_arch": [8], "activation_fn": "tanh"}}, {"sees": "dict"}),
        (Odd, {"policy_kwargs": {"net_arch": [8]}}, {"sees": "image"}),
    ],
)
def test_an_exported_sac_acts_the_same_as_its_own(
    env: Any, agent: dict[str, Any], kwargs: dict[str, Any], tmp_path: Path
) -> None:
    agent = {"learning_starts": 32, "batch_size": 16, "buffer_size": 500, **agent}
    options = {"total_timesteps": 200, "num_envs": 4, "n_eval_episodes": 0, "env_kwargs": kwargs}
    run = rltrain.train("sac", env, progress=False, run_dir=tmp_path, agent=agent, **options).run_dir
    algorithm, written = export(run)
    assert algorithm == "SAC"
    policy = rltrain.load(run, env=None if isinstance(env, str) else env)
    model, mine, obs = SAC.load(written[0], device="cpu"), policy.agent, observations(env, **kwargs)
    ours, _ = policy.predict(obs)
    assert np.ptp(ours.astype(float), axis=0).max() > 0
    if agent.get("normalize_obs"):
        obs = pickle.loads(written[1].read_bytes()).normalize_obs(obs)
    theirs, _ = model.predict(obs, deterministic=True)
    assert np.abs(theirs.astype(float) - ours.astype(float)).max() <= 1e-5
    config: Any = policy.config.agent
    assert (model.gradient_steps, model.n_steps) == (config.gradient_steps, config.n_steps)
    coefficient = model.ent_coef_tensor.log() if model.log_ent_coef is None else model.log_ent_coef
    torch.testing.assert_close(coefficient.detach().exp().view(1), mine.ent_coef())
    if env == PENDULUM and not agent.get("normalize_obs"):  # and the critics value alike
        seen, action = torch.from_numpy(obs), torch.linspace(-1, 1, len(obs)).unsqueeze(1)
        with torch.no_grad():
            for critics, network in ((model.critic, mine.critic), (model.critic_target, mine.critic_target)):
                values = torch.stack(critics(seen, action)).squeeze(2)
                torch.testing.assert_close(values, network(seen, action), rtol=1e-4, atol=1e-5)
        back = rltrain.load(import_sb3(written[0], PENDULUM, run_dir=str(tmp_path)))
        state = back.agent.state_dict()
        assert state.keys() == mine.state_dict().keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in mine.state_dict().items())
        for name in ("ent_coef", "use_sde", "sde_sample_freq", "n_steps", "tau", "policy_kwargs"):
            assert getattr(back.config.agent, name) == getattr(config, name), name


@pytest.mark.parametrize(
    ("agent", "named"),
    [
        ({"distributional": True}, "agent.distributional"),
        ({"policy_kwargs": {"layer_norm": True}}, "agent.policy_kwargs.layer_norm"),
    ],
)
def test_more_than_its_sac_is_named(agent: dict[str, Any], named: str, tmp_path: Path) -> None:
    options = {"total_timesteps": 16, "num_envs": 4, "n_eval_episodes": 0}
    agent = {"buffer_size": 100, **agent}
    run = rltrain.train("sac", PENDULUM, progress=False, run_dir=tmp_path, agent=agent, **options).run_dir
    with pytest.raises(ConfigError, match=f"nothing like {named}, which"):
        export(run)


@pytest.mark.parametrize(
    ("agent", "named"),
    [
        ({"dueling": True}, "agent.dueling"),
        ({"distributional": True}, "agent.distributional"),
        ({"noisy": True}, "agent.noisy"),
        ({"policy_kwargs": {"layer_norm": True}}, "agent.policy_kwargs.layer_norm"),
    ],
)
def test_a_rainbow_is_not_dqn_to_it(agent: dict[str, Any], named: str, tmp_path: Path) -> None:
    agent = {"buffer_size": 100, **agent}
    options = {"total_timesteps": 16, "num_envs": 4, "n_eval_episodes": 0}
    run = rltrain.train("dqn", CARTPOLE, progress=False, run_dir=tmp_path, agent=agent, **options).run_dir
    with pytest.raises(ConfigError, match=f"nothing like {named}, which"):
        export(run)


def test_agents_that_it_has_not_are_named(tmp_path: Path) -> None:
    options = {"total_timesteps": 16, "num_envs": 4, "n_eval_episodes": 0}
    run = rltrain.train("pqn", CARTPOLE, progress=False, run_dir=tmp_path, **options).run_dir
    with pytest.raises(ConfigError, match="'pqn' cannot be exported"):
        export(run)


def test_values_cross_over_and_training_goes_on(tmp_path: Path) -> None:
    run = trained(CARTPOLE, tmp_path, {"learning_rate": "lin_0.01"})
    _, [path] = export(run)
    assert path.parent == run
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PPO.load(path, env=make_sb3_vec(CARTPOLE, 16, seed=0), device="cpu")
    obs = torch.from_numpy(observations(CARTPOLE))
    ours: Any = rltrain.load(run).agent
    with torch.no_grad():
        assert torch.allclose(model.policy.predict_values(obs).squeeze(1), ours.policy.value(obs), atol=1e-6)
    assert (model.num_timesteps, model.batch_size, model.lr_schedule(0.5)) == (512, 64, 0.005)
    model.learn(512)
    assert not torch.equal(model.policy.action_net.weight, ours.policy.action_head.weight)


def test_evaluate_policy_agrees_with_our_evaluation(tmp_path: Path) -> None:
    """The same environments, the same seeds, the same policy: the same episodes."""
    run = trained(CARTPOLE, tmp_path, total_timesteps=2048)
    policy = rltrain.load(run)
    model = PPO.load(export(run)[1][0], device="cpu")
    env = make_sb3_vec(CARTPOLE, 6)
    starts: list[int] = []
    reset = env.vec.reset
    env.vec.reset = lambda seed: (starts.append(seed), reset(seed))[1]  # type: ignore[method-assign]
    theirs, lengths = evaluate_policy(model, env, 12, return_episode_rewards=True)

    from rltrain.evaluation.episodes import run_episodes

    ours = run_episodes(policy.agent.actor, make_vec(CARTPOLE, 6), 12, seed=starts[0])
    assert sorted(theirs) == sorted(ours.returns.tolist())  # type: ignore[arg-type]
    assert sorted(lengths) == sorted(ours.lengths.tolist())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("env", "policy", "kwargs", "named"),
    [
        (Countdown, {}, {}, "action_mask"),
        (PENDULUM, {"squash_output": True}, {}, "agent.policy_kwargs.squash_output"),
        (BREAKOUT, {"features_extractor_class": "auto"}, {}, "agent.policy_kwargs.features_extractor_class auto"),
        (PENDULUM, {"memory": "gru"}, {}, "agent.policy_kwargs.memory"),
        (Odd, {}, {"sees": "number"}, "an observation without dimensions"),
    ],
)
def test_what_it_has_no_architecture_for_is_named(
    env: Any, policy: dict[str, Any], kwargs: dict[str, Any], named: str, tmp_path: Path, capsys: Any
) -> None:
    run = trained(env, tmp_path, {"policy_kwargs": policy}, env_kwargs=kwargs)
    out = tmp_path / "policy.zip"
    assert main(["export", str(run), "--to", "sb3", "--out", str(out)]) == 2
    assert f"Stable-Baselines3 has nothing like {named}" in capsys.readouterr().err.replace("the observation's ", "")
    assert not out.exists()


def test_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(PENDULUM, tmp_path, {"normalize_obs": True})
    out = tmp_path / "mine.zip"
    assert main(["export", str(run), "--to", "sb3", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{out}: PPO.load(...) opens it"
    assert out.with_name("mine_vecnormalize.pkl").exists()
    for words, fix in (
        ([], "--to sb3"),
        (["--to", "jpeg"], "--to sb3"),
        (["--to", "sb3", "--out", "policy.pt"], "zip file"),
        (["--to", "sb3", "--out", "/proc/x/policy.zip"], "another --out"),
    ):
        assert main(["export", str(run), *words]) == 2
        assert fix in capsys.readouterr().err

    runs = tmp_path / "imported"
    assert main(["import-sb3", str(out), "--run-dir", str(runs)]) == 2
    assert "--env" in capsys.readouterr().err
    assert main(["import-sb3", str(out), "--env", PENDULUM, "--run-dir", str(runs), "--env.kwargs.g", "9.81"]) == 0
    made = runs / "rltrain-Pendulum-v1" / "ppo_1"
    assert capsys.readouterr().out.startswith(str(made))
    assert rltrain.load(made).config.env.kwargs == {"g": 9.81}
    assert main(["eval", str(made), "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"] == 512
    assert main(["watch", str(made), "--out", str(tmp_path / "film.gif")]) == 0
    assert main(["resume", str(made), "--total-timesteps", "1024", "--no-progress"]) == 0
    assert main(["import-sb3", str(tmp_path / "none.zip"), "--env", PENDULUM]) == 4
    assert main(["import-sb3", str(out), "--env", CARTPOLE, "--run-dir", str(runs)]) == 2
    assert "observation_space is a Box of [3]" in capsys.readouterr().err


def saved(make: Callable[[], Any], path: Path) -> Any:
    """A model of Stable-Baselines3 that has learned a little, and its file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make()
        model.learn(80)
    model.save(path)
    return model


MAKERS: dict[str, tuple[str, Callable[[], Any]]] = {
    "ppo": (
        CARTPOLE,
        lambda: PPO(
            "MlpPolicy",
            make_sb3_vec(CARTPOLE, 4, seed=0),
            n_steps=16,
            batch_size=32,
            learning_rate=lambda share: 0.001 * share,
            policy_kwargs={"net_arch": {"pi": [16], "vf": [8, 8]}, "activation_fn": torch.nn.ReLU},
            device="cpu",
            seed=3,
        ),
    ),
    "dqn": (
        CARTPOLE,
        lambda: DQN(
            "MlpPolicy",
            make_sb3_vec(CARTPOLE, 4),
            learning_starts=8,
            policy_kwargs={"net_arch": [16, 8]},
            device="cpu",
        ),
    ),
    "sac": (
        PENDULUM,
        lambda: SAC(
            "MlpPolicy",
            make_sb3_vec(PENDULUM, 4),
            learning_starts=8,
            ent_coef="auto_0.3",
            policy_kwargs={"net_arch": {"pi": [16, 8], "qf": [8]}, "n_critics": 3},
            device="cpu",
        ),
    ),
    "sac, noise of the state": (
        PENDULUM,
        lambda: SAC(
            "MlpPolicy",
            make_sb3_vec(PENDULUM, 4),
            learning_starts=8,
            use_sde=True,
            policy_kwargs={"net_arch": [16], "log_std_init": -1.0},
            device="cpu",
        ),
    ),
    "sb3/a2c": (CARTPOLE, lambda: A2C("MlpPolicy", make_sb3_vec(CARTPOLE, 4, seed=0), device="cpu")),
    "sb3/dqn": (CARTPOLE, lambda: DQN("MlpPolicy", make_sb3_vec(CARTPOLE, 4), learning_starts=8, device="cpu")),
    "sb3/sac": (PENDULUM, lambda: SAC("MlpPolicy", make_sb3_vec(PENDULUM, 4), learning_starts=8, device="cpu")),
}


@pytest.mark.parametrize("algo", MAKERS)
def test_an_imported_policy_predicts_the_same(algo: str, tmp_path: Path) -> None:
    env, make = MAKERS[algo]
    algo = algo.partition(",")[0]
    model = saved(make, tmp_path / "model.zip")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = import_sb3(tmp_path / "model.zip", env, algo=algo, run_dir=str(tmp_path))
    if algo == "ppo":  # a function is in a pickle alone
        assert [str(each.message) for each in said] == [
            "Only a pickle in the file knows learning_rate: the defaults stand in."
        ]
    policy = rltrain.load(run)
    assert (policy.config.algo, policy.step, policy.config.num_envs) == (algo, model.num_timesteps, 4)
    obs = observations(env)
    theirs, _ = model.predict(obs, deterministic=True)
    assert np.abs(policy.predict(obs)[0].astype(float) - theirs.astype(float)).max() <= 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = rltrain.resume(run, total_timesteps=model.num_timesteps + 160, progress=False)
    assert result.steps >= model.num_timesteps + 160


def test_an_import_of_ours_needs_no_stable_baselines3(tmp_path: Path) -> None:
    saved(MAKERS["ppo"][1], tmp_path / "model.zip")
    script = """
import sys
sys.modules["stable_baselines3"] = sys.modules["sb3_contrib"] = None  # as if they were not installed
from rltrain.cli import main
file, runs = sys.argv[1:]
for algo, code in ("ppo", 0), ("sb3/ppo", 2):
    words = ["import-sb3", file, "--env", "rltrain/CartPole-v1", "--run-dir", runs, "--algo", algo]
    assert main(words) == code, algo
assert main(["eval", f"{runs}/rltrain-CartPole-v1/ppo_1", "--episodes", "1"]) == 0
"""
    command = [sys.executable, "-c", script, str(tmp_path / "model.zip"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "Run: pip install 'rltrain[sb3]'" in done.stderr


def test_settings_come_along(tmp_path: Path) -> None:
    saved(MAKERS["ppo"][1], tmp_path / "model.zip")
    for algo in ("ppo", "sb3/ppo"):
        with pytest.warns(UserWarning, match="Only a pickle"):
            run = import_sb3(tmp_path / "model.zip", CARTPOLE, algo=algo, run_dir=str(tmp_path))
        config = rltrain.load(run).config
        agent: Any = config.agent
        assert (agent.n_steps, agent.batch_size, agent.clip_range, config.seed) == (16, 32, 0.2, 3)
        assert agent.policy_kwargs.activation_fn == "relu"
        arch = agent.policy_kwargs.net_arch
        assert (arch if isinstance(arch, dict) else arch.model_dump()) == {"pi": [16], "vf": [8, 8]}
    with pytest.raises(ConfigError, match="is a policy of PPO, not of 'sb3/sac'"):
        import_sb3(tmp_path / "model.zip", CARTPOLE, algo="sb3/sac", run_dir=str(tmp_path))


def test_a_round_trip_changes_nothing(tmp_path: Path) -> None:
    widths = {"net_arch": [64, 64]}  # an import writes down what the file has
    run = trained(CARTPOLE, tmp_path, {"learning_rate": "lin_0.005", "clip_range_vf": 0.3, "policy_kwargs": widths})
    _, [path] = export(run)
    back = import_sb3(path, CARTPOLE, run_dir=str(tmp_path))
    before, after = (rltrain.load(each) for each in (run, back))
    assert after.config.agent == before.config.agent
    state = after.agent.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in before.agent.state_dict().items())


@pytest.mark.parametrize("algo", ["ppo", "sb3/ppo"])
def test_a_run_starts_from_a_zip(algo: str, tmp_path: Path) -> None:
    model = saved(MAKERS["ppo"][1], tmp_path / "model.zip")
    still = {"learning_rate": 1e-12, "normalize_obs": False, "policy_kwargs": {"activation_fn": "relu"}}
    still["policy_kwargs"] |= {"net_arch": {"pi": [16], "vf": [8, 8]}}  # type: ignore[operator]
    run = trained(CARTPOLE, tmp_path, still, algo=algo, init_from=tmp_path / "model.zip")
    obs = observations(CARTPOLE)
    assert np.array_equal(rltrain.load(run).predict(obs)[0], model.predict(obs, deterministic=True)[0])
    with pytest.raises(CheckpointError, match="does not fit"):
        trained(CARTPOLE, tmp_path, algo=algo, init_from=tmp_path / "model.zip")
    with pytest.raises(CheckpointError, match="cannot start from"):
        rltrain.train("sb3/trpo", CARTPOLE, run_dir=tmp_path, init_from=tmp_path / "model.zip")
    with pytest.raises(CheckpointError, match="does not fit, no layer of it"):
        trained(PENDULUM, tmp_path, algo=algo, init_from=tmp_path / "model.zip")
    with pytest.warns(UserWarning, match="of .* layers are taken from .*model.zip"):
        trained("rltrain/Acrobot-v1", tmp_path, still, algo=algo, init_from=tmp_path / "model.zip")


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.target,)


def poisoned(source: Path, path: Path, target: Path, where: str) -> None:
    """A copy of a zip with a pickle that acts, in its data or in place of its tensors."""
    payload = pickle.dumps(Payload(target))
    with zipfile.ZipFile(source) as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "data" and where == "data":
                data = json.loads(content)
                text = base64.b64encode(payload).decode()
                for key in ("policy_class", "observation_space", "learning_rate", "policy_kwargs", "clip_range"):
                    known = data[key] if isinstance(data[key], dict) else {}
                    data[key] = {**known, ":type:": known.get(":type:", "x"), ":serialized:": text}
                content = json.dumps(data).encode()
            elif name == where:
                buffer = io.BytesIO()
                torch.save({"log_std": Payload(target)}, buffer)
                content = buffer.getvalue()
            bad.writestr(name, content)


@pytest.mark.parametrize("where", ["data", "policy.pth", "policy.optimizer.pth", "pytorch_variables.pth"])
@pytest.mark.parametrize("algo", ["ppo", "sb3/ppo"])
def test_a_hostile_pickle_is_never_opened(where: str, algo: str, tmp_path: Path) -> None:
    saved(MAKERS["ppo"][1], tmp_path / "good.zip")
    target = tmp_path / "owned"
    poisoned(tmp_path / "good.zip", tmp_path / "bad.zip", target, where)
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists()  # so it would work
    target.rmdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if where == "data":  # the words beside the pickles are enough
            rltrain.load(import_sb3(tmp_path / "bad.zip", CARTPOLE, algo=algo, run_dir=str(tmp_path)))
        else:
            with pytest.raises(CheckpointError, match="Nothing of it was run"):
                import_sb3(tmp_path / "bad.zip", CARTPOLE, algo=algo, run_dir=str(tmp_path))
            with pytest.raises(CheckpointError, match="Nothing of it was run"):
                trained(CARTPOLE, tmp_path, algo=algo, init_from=tmp_path / "bad.zip")
    assert not target.exists()


def test_what_is_no_such_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("data", "{}")
    for name in ("text", "other", "empty", "missing"):
        with pytest.raises(CheckpointError):
            Archive.read(tmp_path / f"{name}.zip")
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as archive:
        archive.writestr("data", json.dumps({"policy_class": {"__module__": "their.policies"}}))
        buffer = io.BytesIO()
        torch.save({}, buffer)
        archive.writestr("policy.pth", buffer.getvalue())
    with pytest.raises(ConfigError, match=r"their\.policies"):
        import_sb3(tmp_path / "foreign.zip", CARTPOLE, run_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("value", "setting"),
    [
        (0.5, 0.5),
        ("auto", "auto"),
        (None, None),
        ({":serialized:": "x", "value_schedule": "ConstantSchedule(val=0.2)"}, 0.2),
        ({":serialized:": "x", "value_schedule": "LinearSchedule(start=0.001, end=0, end_fraction=1)"}, "lin_0.001"),
        ({":serialized:": "x", "value_schedule": "LinearSchedule(start=0.1, end=0.01, end_fraction=1)"}, None),
        ({":serialized:": "x", "start": 1e-4, "end": 0.0, "end_fraction": 1.0}, "lin_0.0001"),
        ({":serialized:": "x", "value_schedule": "__import__('os').getcwd()"}, None),
        ({":serialized:": "x"}, None),
    ],
)
def test_words_beside_a_pickle_are_read(value: Any, setting: Any) -> None:
    assert readable(value) == setting
