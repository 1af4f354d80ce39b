"""The Python interface: train, load, predict, evaluate, start from another policy."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from countdown import Countdown
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain.cli import main
from rltrain.env import TensorEnv
from rltrain.errors import CheckpointError, ConfigError
from rltrain.runs.checkpoint import load_modules, load_policy
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import POLICY, list_checkpoints

CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"
AGENT: dict[str, Any] = {
    "learning_rate": 0.001,
    "n_steps": 32,
    "batch_size": 64,
    "n_epochs": 1,
    "policy_kwargs": {"net_arch": [16]},
}
OPTIONS: dict[str, Any] = {
    "progress": False,
    "total_timesteps": 512,
    "num_envs": 8,
    "save_freq": 256,
    "n_eval_episodes": 3,
    "agent": AGENT,
}


@dataclass
class GridState:
    cell: Tensor  # (N,) int64


class Grid(TensorEnv[GridState]):
    """Everything about its spaces is odd: a Dict with a separator in a name, actions that start at -1."""

    max_episode_steps = 5

    def __init__(self, *, size: int = 4, **base: Any) -> None:
        super().__init__(**base)
        self.size = size
        self.observation_space = spaces.Dict(
            {"where/cell": spaces.Discrete(size, start=2), "picture": spaces.Box(0.0, 1.0, (size,))}
        )
        self.action_space = spaces.Discrete(3, start=-1)

    def reset(self, n: int, rng: torch.Generator | None) -> GridState:
        return GridState(torch.randint(self.size, (n,), device=self.device, generator=rng))

    def step(self, state: GridState, action: Tensor, rng: torch.Generator | None) -> tuple[GridState, Tensor, Tensor]:
        assert bool(((action >= -1) & (action <= 1)).all())
        after = GridState((state.cell + action).clamp(0, self.size - 1))
        at_end = after.cell == self.size - 1
        return after, at_end.to(self.dtype), at_end

    def observe(self, state: GridState) -> dict[str, Tensor]:
        picture = torch.nn.functional.one_hot(state.cell, self.size).to(self.dtype)
        return {"where/cell": state.cell + 2, "picture": picture}

    def info(self, state: GridState) -> dict[str, Tensor]:
        return {"is_success": state.cell == self.size - 1}


Train = Callable[..., rltrain.RunResult]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """A short run, by environment and options."""
    made: dict[str, rltrain.RunResult] = {}

    def train(env: str | type[TensorEnv], **changes: Any) -> rltrain.RunResult:
        key = repr((env, changes))
        if key not in made:
            folder = tmp_path_factory.mktemp("runs")
            made[key] = rltrain.train("ppo", env, **{**OPTIONS, "run_dir": folder, **changes})
        return made[key]

    return train


def test_train_tells_what_came_of_it(trained: Train) -> None:
    result = trained(CARTPOLE)
    assert isinstance(result, rltrain.RunResult)
    assert result.run_dir.name == "ppo_1"
    assert result.run_dir.parent.name == "rltrain-CartPole-v1"
    assert (result.steps, result.stopped_by, result.signal) == (512, "total_timesteps", None)
    assert result.seconds > 0
    assert result.evaluation is not None
    assert result.evaluation.returns.shape == result.evaluation.lengths.shape == (3,)
    assert (result.evaluation.returns == result.evaluation.lengths).all()  # a reward of 1 per step
    assert result.picture == result.run_dir / "learning_curve.png"
    assert result.picture.read_bytes()[:4] == b"\x89PNG"
    metadata = RunFolder(result.run_dir).metadata()
    assert metadata["status"] == "completed"
    assert metadata["evaluation"] == result.evaluation.summary()


def test_without_a_final_evaluation(tmp_path: Path) -> None:
    result = rltrain.train("ppo", CARTPOLE, **{**OPTIONS, "n_eval_episodes": 0, "run_dir": str(tmp_path)})
    assert result.evaluation is None


def test_runs_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "rltrain-CartPole-v1" / "ppo_7").mkdir(parents=True)
    (tmp_path / "rltrain-CartPole-v1" / "ppo_backup").mkdir()
    options = {**OPTIONS, "n_eval_episodes": 0, "total_timesteps": 1, "run_dir": tmp_path}
    assert [rltrain.train("ppo", CARTPOLE, **options).run_dir.name for _ in range(2)] == ["ppo_8", "ppo_9"]


def test_a_run_can_be_made_again_from_its_own_file(tmp_path: Path, trained: Train) -> None:
    """The same bits, from config.yaml alone."""
    first = trained(CARTPOLE).run_dir
    code = main(["train", "--config", str(first / "config.yaml"), "--run-dir", str(tmp_path), "--no-progress"])
    assert code == 0
    again = tmp_path / "rltrain-CartPole-v1" / "ppo_1"
    config, other = (yaml.safe_load((run / "config.yaml").read_text()) for run in (first, again))
    assert {**config, "run_dir": None} == {**other, "run_dir": None}
    last, last_again = (list_checkpoints(run / "checkpoints")[-1] / POLICY for run in (first, again))
    assert last.read_bytes() == last_again.read_bytes()


# predict


def test_predict_answers_in_kind(trained: Train) -> None:
    policy = rltrain.load(trained(CARTPOLE).run_dir)
    batch = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    actions, state = policy.predict(batch)
    assert state is None
    assert isinstance(actions, np.ndarray)
    assert (actions.shape, actions.dtype) == ((5,), policy.action_space.dtype)
    single, _ = policy.predict(batch[2])
    assert type(single) is int  # of a Discrete space
    assert policy.action_space.contains(single)
    tensors, _ = policy.predict(torch.from_numpy(batch))
    assert isinstance(tensors, Tensor)
    assert tensors.tolist() == actions.tolist()
    assert isinstance(policy.predict(torch.from_numpy(batch[0]))[0], Tensor)
    assert [int(policy.predict(row)[0]) for row in batch] == actions.tolist()
    assert policy.predict(batch.astype(np.float64))[0].tolist() == actions.tolist()
    assert policy.predict(batch.tolist())[0].tolist() == actions.tolist()


def test_predict_for_box_actions(trained: Train) -> None:
    policy = rltrain.load(trained(PENDULUM).run_dir)
    obs = np.zeros((7, 3), dtype=np.float32)
    actions, _ = policy.predict(obs, deterministic=False)
    assert actions.shape == (7, 1)
    assert len({float(action) for action in actions[:, 0]}) > 3  # some are clipped
    assert all(policy.action_space.contains(action) for action in actions)
    assert policy.predict(obs[0])[0].shape == (1,)


def test_predict_is_deterministic_unless_told_otherwise(trained: Train) -> None:
    policy, other = (rltrain.load(trained(CARTPOLE).run_dir) for _ in range(2))
    obs = np.random.default_rng(0).normal(size=(200, 4))
    first = policy.predict(obs)[0].tolist()
    assert policy.predict(obs)[0].tolist() == other.predict(obs)[0].tolist() == first
    torch.manual_seed(0)
    sampled = policy.predict(obs, deterministic=False)[0].tolist()
    assert sampled != policy.predict(obs, deterministic=False)[0].tolist()
    torch.manual_seed(0)
    assert policy.predict(obs, deterministic=False)[0].tolist() == sampled


@pytest.mark.parametrize(
    "obs",
    [
        torch.zeros(4, device="meta"),
        torch.zeros(4, dtype=torch.complex64),
        torch.sparse_coo_tensor(size=(4,), dtype=torch.float32),
    ],
    ids=["meta", "complex", "sparse"],
)
def test_predict_refuses_a_tensor_without_numbers(trained: Train, obs: torch.Tensor) -> None:
    with pytest.raises(rltrain.errors.InputError, match="holds no numbers to act upon"):
        rltrain.load(trained(CARTPOLE).run_dir).predict(obs)


@pytest.mark.parametrize("name", ["episodes", "seed"])
@pytest.mark.parametrize("value", [-1, 10**30, 1.5, "x", None])
def test_numbers_of_an_evaluation_that_are_none(trained: Train, tmp_path: Path, name: str, value: object) -> None:
    policy = rltrain.load(trained(CARTPOLE).run_dir)
    for use in (policy.evaluate, partial(policy.film, tmp_path / "film.gif")):
        with pytest.raises(rltrain.ConfigError, match=f"{name}=.* is out of range"):
            use(**{name: value})  # type: ignore[arg-type]
    assert not (tmp_path / "film.gif").exists()


@pytest.mark.parametrize("shape", [(), (3,), (5,), (2, 3), (4, 1), (1, 2, 4), (4, 4, 4)])
def test_predict_refuses_a_wrong_shape(trained: Train, shape: tuple[int, ...]) -> None:
    policy = rltrain.load(trained(CARTPOLE).run_dir)
    for obs in (np.zeros(shape), torch.zeros(shape)):
        with pytest.raises(ValueError, match=r"expected \(4,\) or \(N, 4,\)") as caught:
            policy.predict(obs)
        assert str(shape) in str(caught.value)


def test_predict_for_a_dict(trained: Train) -> None:
    policy = rltrain.load(trained(Grid).run_dir)
    obs = {"where/cell": np.array([2, 5, 3]), "picture": np.eye(4, dtype=np.float32)[[0, 3, 1]]}
    actions, _ = policy.predict(obs)
    assert actions.shape == (3,)
    assert set(actions.tolist()) <= {-1, 0, 1}
    singles = [policy.predict({name: part[i] for name, part in obs.items()})[0] for i in range(3)]
    assert [int(action) for action in singles] == actions.tolist()
    assert isinstance(policy.predict({name: torch.as_tensor(part) for name, part in obs.items()})[0], Tensor)
    for wrong in (obs["picture"], {"picture": obs["picture"]}, {**obs, "picture": np.zeros((3, 5))}):
        with pytest.raises(ValueError, match=r"where/cell|picture"):
            policy.predict(wrong)


def test_predict_drives_a_plain_gymnasium_loop(trained: Train) -> None:
    """Gymnasium's own CartPole, which knows nothing of us."""
    policy = rltrain.load(trained(CARTPOLE).run_dir)
    env = gymnasium.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    state, steps, done = None, 0, False
    while not done:
        action, state = policy.predict(obs, state, episode_start=np.array([steps == 0]))
        obs, _, terminated, truncated, _ = env.step(action)
        steps, done = steps + 1, terminated or truncated
    assert 1 < steps <= 500


# load and evaluate


def test_load_takes_a_run_or_a_checkpoint(trained: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(CARTPOLE).run_dir
    first, last = list_checkpoints(run / "checkpoints")
    assert rltrain.load(run).step == rltrain.load(last).step == rltrain.load(run, checkpoint=512).step == 512
    assert rltrain.load(str(first)).step == rltrain.load(run, checkpoint="256").step == 256
    monkeypatch.chdir(run / "checkpoints")
    assert rltrain.load("..").step == 512
    assert rltrain.load(first.name).step == 256
    for which in ("best", 13, "first"):
        with pytest.raises(CheckpointError):
            rltrain.load(run, checkpoint=which)


def test_the_best_is_the_one_that_evaluated_best(trained: Train) -> None:
    run = trained(CARTPOLE, total_timesteps=2_048, eval_freq=256, n_eval_episodes=5, keep_checkpoints=1).run_dir
    best = RunFolder(run).best()
    assert best is not None
    policy = rltrain.load(run, checkpoint="best")
    assert policy.step == best["step"]
    kept = [int(path.name.removeprefix("step_")) for path in list_checkpoints(run / "checkpoints")]
    assert kept == sorted({best["step"], 2_048})
    rows = [line.split(",") for line in (run / "progress.csv").read_text().splitlines()]
    step, reward = rows[0].index("time/total_timesteps"), rows[0].index("eval/mean_reward")
    evaluated = {int(row[step]): float(row[reward]) for row in rows[1:]}
    assert best["mean_reward"] == pytest.approx(max(evaluated.values()))


def test_evaluate_plays_what_it_is_asked_for(trained: Train) -> None:
    policy = rltrain.load(trained(CARTPOLE).run_dir)
    result = policy.evaluate(7)
    assert result.returns.shape == (7,)
    assert np.array_equal(policy.evaluate(7).returns, result.returns)
    assert not np.array_equal(policy.evaluate(7, seed=1).returns, result.returns)
    assert not np.array_equal(policy.evaluate(7, deterministic=False).returns, result.returns)
    for episodes in (0, -1):
        with pytest.raises(ConfigError, match="episodes"):
            policy.evaluate(episodes)


def test_evaluate_is_that_of_the_end_of_training(trained: Train) -> None:
    """The same policy and, for the same seed, the same episodes."""
    result = trained(CARTPOLE)
    assert result.evaluation is not None
    evaluation = rltrain.load(result.run_dir).evaluate(3, seed=0)
    assert np.array_equal(evaluation.returns, result.evaluation.returns)


def test_a_class_that_is_not_registered(trained: Train, tmp_path: Path) -> None:
    run = trained(Grid, env_kwargs={"size": 3}).run_dir
    policy = rltrain.load(run, env=Grid)
    evaluation = policy.evaluate(6)
    assert evaluation.successes.shape == (6,)
    assert "success_rate" in evaluation.summary()
    assert policy.observation_space["picture"].shape == (3,)
    without = rltrain.load(run)  # enough to act
    obs = {"where/cell": np.array(2), "picture": np.zeros(3)}
    assert without.predict(obs)[0] == policy.predict(obs)[0]
    with pytest.raises(ConfigError, match=r"'Grid' that this policy was trained in is not registered.*env=TheClass"):
        without.evaluate(1)
    whole = rltrain.train(
        "ppo", Grid, **{**OPTIONS, "env_kwargs": {"size": 3}, "total_timesteps": 1_024, "run_dir": tmp_path}
    )
    assert rltrain.resume(run, env=Grid, total_timesteps=1_024, progress=False).steps == 1_024
    last, other = (list_checkpoints(each / "checkpoints")[-1] / POLICY for each in (run, whole.run_dir))
    assert last.read_bytes() == other.read_bytes()  # resumed exactly, dict observations and all
    with pytest.raises(ConfigError, match=r"environment 'Grid' .* is not registered here.*env=TheClass"):
        rltrain.resume(run, total_timesteps=2_048, progress=False)


def test_a_class_with_an_action_mask(trained: Train) -> None:
    policy = rltrain.load(trained(Countdown).run_dir, env=Countdown)
    assert policy.evaluate(20).mean_reward > 0
    obs = {"observation": np.array([[1.0, 0.0]] * 50), "action_mask": np.array([[1, 0, 0]] * 50, dtype=np.int8)}
    assert set(policy.predict(obs, deterministic=False)[0].tolist()) == {0}


def test_film_says_how_long_it_is(trained: Train, tmp_path: Path) -> None:
    policy = rltrain.load(trained(CARTPOLE).run_dir)
    assert 1 < policy.film(tmp_path / "film.gif") <= 500
    assert (tmp_path / "film.gif").read_bytes()[:3] == b"GIF"
    with pytest.raises(ConfigError, match="avi"):
        policy.film(tmp_path / "film.avi")


def test_nothing_that_a_folder_names_is_imported(
    tmp_path: Path, trained: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evil_module.py").write_text("import sys; sys.evil_was_here = True")
    monkeypatch.syspath_prepend(tmp_path)
    for number, (old, new) in enumerate(
        (
            (f"id: {CARTPOLE}", "id: evil_module:Evil-v0"),
            (f"id: {CARTPOLE}", f"id: evil_module:{CARTPOLE}"),
            ("algo: ppo", "algo: evil_module:Agent"),
            ("algo: ppo", "algo: !!python/name:evil_module.Agent"),
        )
    ):
        run = Path(shutil.copytree(trained(CARTPOLE).run_dir, tmp_path / str(number) / "ppo_1"))
        text = (run / "config.yaml").read_text()
        assert old in text
        (run / "config.yaml").write_text(text.replace(old, new))
        for words in (
            ["eval", str(run), "--episodes", "1"],
            ["watch", str(run)],
            ["resume", str(run), "--total-timesteps", "9999"],
        ):
            assert main(words) == 4, words
            error = capsys.readouterr().err
            assert error.startswith("error: "), words
            assert "config.yaml" in error, words
        for verb in ("plot", "show", "runs"):  # which only read
            main([verb, str(run)])
    assert "evil_module" not in sys.modules
    assert not hasattr(sys, "evil_was_here")


# init_from


def test_init_from_starts_from_the_policy(trained: Train, tmp_path: Path) -> None:
    source = trained(CARTPOLE, agent={**AGENT, "normalize_obs": True}).run_dir
    # A rate too small to move a float: what the run saves is what it started from.
    agent = {**AGENT, "normalize_obs": True, "learning_rate": 1e-30}
    options = {**OPTIONS, "agent": agent, "total_timesteps": 1, "seed": 5, "run_dir": tmp_path, "n_eval_episodes": 0}
    start = list_checkpoints(source / "checkpoints")[0]
    for init_from, expected in ((source, 512), (start, 256)):
        run = rltrain.train("ppo", CARTPOLE, **{**options, "init_from": init_from}).run_dir
        last, origin = list_checkpoints(run / "checkpoints")[-1], source / "checkpoints" / f"step_{expected:012d}"
        weights, wanted = ({**load_policy(path), **load_modules(path)} for path in (last, origin))
        networks = [name for name in wanted if "normalizer" not in name]
        assert {"pi.0.weight", "policy.vf.0.weight", "policy.value_head.bias"} <= set(networks)
        assert len(networks) > 5
        assert all(torch.equal(weights[name], wanted[name]) for name in networks)
        assert weights["obs_normalizer.moments.observation.count"] > wanted["obs_normalizer.moments.observation.count"]
    fresh = rltrain.train("ppo", CARTPOLE, **options).run_dir
    other = load_policy(list_checkpoints(fresh / "checkpoints")[-1])
    assert not torch.equal(other["pi.0.weight"], wanted["pi.0.weight"])


@pytest.mark.parametrize(
    ("env", "changes", "text"),
    [
        (CARTPOLE, {"agent": {**AGENT, "policy_kwargs": {"net_arch": [8]}}}, "does not fit"),
        (CARTPOLE, {"init_from": "nowhere"}, "no run folder 'nowhere'"),
    ],
)
def test_init_from_something_else(trained: Train, tmp_path: Path, env: str, changes: dict[str, Any], text: str) -> None:
    options = {**OPTIONS, "run_dir": tmp_path / "runs", "init_from": trained(CARTPOLE).run_dir, **changes}
    with pytest.raises(CheckpointError, match=text):
        rltrain.train("ppo", env, **options)
    assert not (tmp_path / "runs").exists()
