"""gymnax's and brax's environments through our adapter: memory, time limits, state, pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cartpole_steps import judged
from gymnasium import spaces

import rltrain
from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.runs.checkpoint import load_policy
from rltrain.tree import leaves

jax = pytest.importorskip("jax", reason="JAX is an extra: pip install -c constraints.txt -e '.[test,jax]'")
pytest.importorskip("gymnax", reason="JAX is an extra: pip install -c constraints.txt -e '.[test,jax]'")
pytest.importorskip("brax", reason="JAX is an extra: pip install -c constraints.txt -e '.[test,jax]'")

from rltrain.adapters.jax_vec import JaxVecEnv, to_jax, to_torch  # noqa: E402

CARTPOLE = "gymnax/CartPole-v1"
PUSH = torch.ones(1, dtype=torch.int64)


def make(id: str = CARTPOLE, n: int = 4, **options: Any) -> JaxVecEnv:
    vec = make_vec(id, n, **options)
    assert isinstance(vec, JaxVecEnv)
    return vec


@pytest.mark.parametrize("id", [CARTPOLE, "gymnax/Pendulum-v1", "gymnax/Catch-bsuite"])
def test_it_keeps_the_promises_of_a_vector_environment(id: str) -> None:
    report = rltrain.check_env(id)
    assert not report.findings, report


def test_brax_keeps_them_too() -> None:
    findings = rltrain.check_env("brax/fast").findings
    assert [finding.message for finding in findings] == ["two runs from different seeds are equal."]  # it has no chance


def test_tensors_and_arrays_are_the_same_memory() -> None:
    for dtype in (torch.float32, torch.int32, torch.bool):
        tensor = torch.zeros(64, dtype=dtype)
        array = to_jax(tensor)
        assert array.unsafe_buffer_pointer() == tensor.data_ptr()
        assert to_torch(array).data_ptr() == tensor.data_ptr()


def test_what_a_step_gives_is_not_copied_and_not_what_is_carried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    vec = make("gymnax/Pendulum-v1", 16)
    vec.reset(0)
    program, seen = vec.program.step, []
    monkeypatch.setattr(vec.program, "step", lambda *given: seen.append((given, program(*given))) or seen[-1][1])
    action = torch.zeros(16, 1)
    step = vec.step(action)
    (_, given, _), (carry, new) = seen[0]
    assert given.unsafe_buffer_pointer() == action.data_ptr()
    for name in ("reward", "terminated", "truncated", "episode_return"):
        assert getattr(step, name).data_ptr() == new[name].unsafe_buffer_pointer(), name
    assert step.obs.data_ptr() == new["obs"][0].unsafe_buffer_pointer()
    assert step.final_obs.data_ptr() == new["final_obs"][0].unsafe_buffer_pointer()
    carried = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(carry)}
    given_out = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(new)} | {action.data_ptr()}
    assert not carried & given_out


@pytest.mark.parametrize("id", ["gymnax/Pendulum-v1", "brax/fast"])
def test_torch_may_write_into_everything_it_is_given(id: str) -> None:
    def play(scribble: bool) -> list[torch.Tensor]:
        vec, seen = make(id, max_episode_steps=3), []
        obs = vec.reset(0)
        for number in range(8):
            if scribble:
                obs.fill_(7)
            action = torch.full((4, 1), number / 8)
            step = vec.step(action)
            seen.append(step.final_obs.clone())
            if scribble:
                given = [leaf for field in step for leaf in leaves(field)]
                for tensor in [action, *given, *vec.state_dict().values()]:
                    tensor.fill_(7)
            obs = step.obs
        return seen

    assert all(torch.equal(a, b) for a, b in zip(play(True), play(False), strict=True))


def test_a_loaded_state_is_a_copy() -> None:
    vec, other = make(), make()
    vec.reset(0)
    saved = vec.state_dict()
    other.load_state_dict(saved)
    for part in saved.values():
        part.fill_(7)
    action = torch.zeros(4, dtype=torch.int64)
    assert torch.equal(vec.step(action).obs, other.step(action).obs)
    with pytest.raises(ValueError, match="the saved state has"):
        make(n=3).load_state_dict(vec.state_dict())


def test_every_transition_is_gymnasiums() -> None:
    steps = judged(make(), 120)
    assert sum(int(step.terminated.sum()) for step in steps) > 10
    assert not any(step.truncated.any() for step in steps)


def test_the_time_limit_truncates_and_an_end_in_its_step_is_an_end() -> None:
    vec = make(n=1)
    vec.reset(0)
    fallen = next(step for step in (vec.step(PUSH) for _ in range(100)) if step.terminated)
    for limit, ends in ((int(fallen.episode_length), (True, False)), (int(fallen.episode_length) - 1, (False, True))):
        vec = make(n=1, max_episode_steps=limit)
        vec.reset(0)
        last = [vec.step(PUSH) for _ in range(limit)][-1]
        assert (last.terminated.item(), last.truncated.item()) == ends


def test_observations_show_the_time_left_of_the_limit_that_there_is() -> None:
    vec = make("gymnax/DiscountingChain-bsuite", 2, max_episode_steps=50)
    vec.reset(0)
    step = [vec.step(torch.zeros(2, dtype=torch.int64)) for _ in range(5)][-1]
    assert step.final_obs.flatten()[-1].item() == pytest.approx(5 / 50)


def test_parameters_are_constructor_arguments() -> None:
    def speed(**kwargs: float) -> float:
        vec = make(n=1, **kwargs)
        vec.reset(0)
        return vec.step(PUSH).final_obs[0, 1].item()

    assert speed(force_mag=20.0) > speed() + 0.1


def test_brax_has_a_limit_of_its_own_and_clips_actions() -> None:
    vec = make("brax/fast", 2, max_episode_steps=3)
    vec.reset(0)
    steps = [vec.step(torch.full((2, 1), 5.0)) for _ in range(4)]
    assert [step.truncated.all().item() for step in steps] == [False, False, True, False]
    assert vec.single_action_space == spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert make_vec("brax/fast", 2).max_episode_steps == 1000


def test_a_resumed_run_is_the_one_that_went_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_envs": 4, "n_eval_episodes": 0, "seed": 3, "device": "cpu", "progress": False}
    options["agent"] = {"n_steps": 16, "batch_size": 64, "n_epochs": 1, "learning_rate": 0.001}
    whole = rltrain.train("ppo", CARTPOLE, total_timesteps=512, run_dir=str(tmp_path / "whole"), **options).run_dir
    part = rltrain.train("ppo", CARTPOLE, total_timesteps=256, run_dir=str(tmp_path / "part"), **options).run_dir
    assert json.loads((part / "metadata.json").read_text())["exact_resume"] is True
    rltrain.resume(part, total_timesteps=512, progress=False)
    a, b = (load_policy(run / "checkpoints" / "step_000000000512") for run in (whole, part))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_command_line_trains_with_settings_for_many_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--total-timesteps 128 --num-envs 4 --n-eval-episodes 0 --agent.n-steps 16 --no-progress"
    assert main(["train", "ppo", CARTPOLE, *options.split()]) == 0
    assert "settings: ppo/default.yaml" in capsys.readouterr().err
    assert main(["watch", "runs/gymnax-CartPole-v1/ppo_1", "--out", "film.gif"]) == 0
    assert main(["envs", CARTPOLE]) == 0
    assert "force_mag [10.0]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("train ppo gymnax/CartPol-v1", "There is no environment 'gymnax/CartPol-v1'."),
        (f"train ppo {CARTPOLE} --env.kwargs.gravty 1.6", "has no constructor argument 'gravty'"),
        (f"train ppo {CARTPOLE} --env.vectorization sync", "which gymnax steps by itself"),
        ("watch gymnax/Reacher-misc --out f.gif", "'gymnax/Reacher-misc' draws no pictures"),
        ("train ppo brax/elephant", "There is no environment 'brax/elephant'."),
        ("watch brax/fast --out f.gif", "'brax/fast' cannot be drawn here"),
    ],
)
def test_mistakes_are_named_before_anything_is_created(
    command: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    assert cause in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_pictures_are_gymnasiums_or_the_grid() -> None:
    for id, shape in (("gymnax/Pendulum-v1", (500, 500, 3)), ("gymnax/Breakout-MinAtar", (200, 200, 3))):
        vec = make(id, 1, render=True)
        vec.reset(0)
        picture = vec.render()
        assert (picture.shape, picture.dtype) == (shape, np.uint8)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2


def test_a_device_that_jax_does_not_have_is_named() -> None:
    with pytest.raises(ConfigError, match="JAX has no device 'xpu'"):
        make_vec(CARTPOLE, 1, device="xpu")
