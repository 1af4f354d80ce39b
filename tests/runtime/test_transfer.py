"""Starting from another policy, keeping parts of it as they are, and learning from a teacher."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bits import as_bits, last_state
from torch import Tensor

import rltrain
from rltrain.cli import main
from rltrain.errors import CheckpointError, ConfigError
from rltrain.runs.checkpoint import load_modules, load_policy
from rltrain.runs.layout import list_checkpoints

CARTPOLE, ACROBOT = "rltrain/CartPole-v1", "rltrain/Acrobot-v1"
AGENT: dict[str, Any] = {
    "n_steps": 16,
    "batch_size": 32,
    "n_epochs": 2,
    "learning_rate": 1e-3,
    "normalize_obs": False,
    "normalize_reward": False,
    "policy_kwargs": {"net_arch": [16, 16]},
}
OPTIONS: dict[str, Any] = {
    "progress": False,
    "total_timesteps": 256,
    "num_envs": 8,
    "n_eval_episodes": 0,
    "agent": AGENT,
}
STILL = {**AGENT, "learning_rate": 1e-30}  # too small to move a float: what the run saves is what it started from

Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(algo: str = "ppo", env: str = CARTPOLE, **options: Any) -> Path:
        return rltrain.train(algo, env, **{**OPTIONS, "run_dir": tmp_path / "runs", **options}).run_dir

    return run


def tensors(run: Path) -> dict[str, Tensor]:
    last = list_checkpoints(run / "checkpoints")[-1]
    return {**load_policy(last), **load_modules(last)}


def changed(first: Path, second: Path) -> set[str]:
    """Layers that differ between two runs."""
    one, other = tensors(first), tensors(second)
    return {name.rpartition(".")[0] for name in one if not torch.equal(one[name], other[name])}


def test_what_fits_is_taken_and_the_rest_is_named(train: Train) -> None:
    source = train()
    with pytest.warns(UserWarning, match=r"3 of 6 layers are taken .* pi\.0 \(weight 16x6 here, 16x4 there\)") as told:
        run = train(env=ACROBOT, init_from=source, agent=STILL)
    text = next(str(each.message) for each in told if "layers are taken" in str(each.message))
    assert all(f"{layer} (weight" in text for layer in ("policy.vf.0", "pi.0", "action_head"))
    before, after = tensors(source), tensors(run)
    for layer in ("pi.2", "policy.vf.2", "policy.value_head"):
        assert all(torch.equal(before[f"{layer}.{part}"], after[f"{layer}.{part}"]) for part in ("weight", "bias"))
    # A layer is taken whole or not at all: the bias of the first one would fit.
    assert not torch.equal(before["pi.0.bias"] + 1.0, after["pi.0.bias"] + 1.0)


def test_other_constants_of_the_same_spaces_take_everything(train: Train) -> None:
    source = train()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*layers are taken")
        run = train(init_from=source, agent=STILL, env_kwargs={"length": 1.5})
    assert changed(source, run) == set()


def test_nothing_that_fits_is_an_error(train: Train, tmp_path: Path) -> None:
    source = train()
    other = {**AGENT, "policy_kwargs": {"net_arch": [8]}}
    with pytest.raises(CheckpointError, match="does not fit, no layer of it: weight 8x6 here, 16x4 there"):
        rltrain.train("ppo", ACROBOT, **{**OPTIONS, "run_dir": tmp_path / "out", "init_from": source, "agent": other})
    assert not (tmp_path / "out").exists()


def test_statistics_of_a_normaliser_are_taken_whole(train: Train) -> None:
    scaled = {**STILL, "normalize_obs": True}
    source = train(agent={**AGENT, "normalize_obs": True})
    with pytest.warns(UserWarning, match=r"obs_normalizer\.moments\.observation \(mean 6 here, 4 there\)"):
        run = train(env=ACROBOT, init_from=source, agent=scaled)
    count = "obs_normalizer.moments.observation.count"
    assert tensors(run)[count] == tensors(train(env=ACROBOT, agent=scaled))[count]


def test_a_policy_without_the_normaliser_of_the_new_run(train: Train) -> None:
    source = train()
    with pytest.warns(UserWarning, match=r"fresh are obs_normalizer\.moments\.observation \(mean is not there\)"):
        train(init_from=source, agent={**STILL, "normalize_obs": True})
    scaled = train(agent={**AGENT, "normalize_obs": True})
    with pytest.warns(UserWarning, match=r"of no use here are its obs_normalizer\.moments\.observation"):
        train(init_from=scaled, agent=STILL)


@pytest.mark.parametrize(
    ("pattern", "layers"),
    [
        ("value", {"policy.vf.0", "policy.vf.2", "policy.value_head"}),
        ("policy", {"pi.0", "pi.2", "action_head"}),
        ("pi.2", {"pi.2"}),
        ("vf, action_head", {"policy.vf.0", "policy.vf.2", "action_head"}),
        ("*pi.?.weight", {"pi.0", "pi.2"}),
    ],
)
def test_reset_leaves_parts_fresh(train: Train, pattern: str, layers: set[str]) -> None:
    source = train()
    run = train(init_from=source, reset=pattern, agent=STILL, seed=1)
    assert changed(source, run) == layers
    untouched = tensors(train(agent=STILL, seed=1))
    after = tensors(run)
    for layer in layers:
        assert torch.equal(after[f"{layer}.weight"], untouched[f"{layer}.weight"])


def test_what_is_frozen_stays_to_the_bit(train: Train) -> None:
    source = train()
    all_layers = {"pi.0", "pi.2", "action_head", "policy.vf.0", "policy.vf.2", "policy.value_head"}
    assert changed(source, train(init_from=source)) == all_layers
    assert changed(source, train(init_from=source, freeze="pi.0 vf")) == {"pi.2", "action_head", "policy.value_head"}
    assert changed(source, train(init_from=source, freeze=["policy"])) == {
        "policy.vf.0",
        "policy.vf.2",
        "policy.value_head",
    }


def test_smaller_steps_of_some_layers(train: Train) -> None:
    source = train()
    one = {**OPTIONS["agent"], "n_epochs": 1, "batch_size": 128, "max_grad_norm": 1e9}
    options = {"init_from": source, "total_timesteps": 128, "agent": one}
    whole, less = (train(**options, **more) for more in ({}, {"learning_rate_scale": {"pi": 0.25}}))
    start, far, near = (tensors(run) for run in (source, whole, less))
    name = "pi.0.weight"
    torch.testing.assert_close(near[name] - start[name], 0.25 * (far[name] - start[name]), rtol=1e-3, atol=1e-7)
    assert torch.equal(near["action_head.weight"], far["action_head.weight"])


@pytest.mark.parametrize(
    ("algo", "env", "agent", "freeze"),
    [
        ("dqn", CARTPOLE, {"learning_starts": 32, "batch_size": 16}, "body.0"),
        ("pqn", CARTPOLE, {"n_steps": 16, "batch_size": 32}, "body.0"),
        ("sac", "rltrain/Pendulum-v1", {"learning_starts": 32, "batch_size": 16}, "critic"),
    ],
)
def test_other_agents_freeze_too(
    train: Train, algo: str, env: str, agent: dict[str, Any], freeze: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = train(algo, env, agent=agent)
    names = {name.rpartition(".")[0] for name in tensors(source)}
    from rltrain.runs.fitting import matches

    frozen = {layer for layer in names if matches(freeze, f"{layer}.weight")}
    if not frozen:
        pytest.fail(f"'{freeze}' is none of {sorted(names)}")
    moved = changed(source, train(algo, env, agent=agent, init_from=source, freeze=freeze))
    assert moved
    assert not moved & {layer for layer in frozen if "target" not in layer}


def test_a_seed_of_many_freezes_as_alone(train: Train, tmp_path: Path) -> None:
    source = train()
    options = {**OPTIONS, "init_from": source, "freeze": "pi.0", "learning_rate_scale": {"vf": 0.5}}
    runs = rltrain.train_seeds("ppo", CARTPOLE, 2, **{**options, "run_dir": tmp_path / "many"})
    for seed, result in runs.items():
        assert not isinstance(result, Exception)
        alone = tensors(train(**{**options, "seed": seed}))
        together = tensors(result.run_dir)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-5)
        assert torch.equal(together["pi.0.weight"], tensors(source)["pi.0.weight"])


def test_it_resumes_bit_for_bit(train: Train, tmp_path: Path) -> None:
    source = train()
    options = {"init_from": source, "freeze": "pi.0", "learning_rate_scale": {"vf": 0.5}, "teacher": source}
    whole = train(**options, total_timesteps=512, save_freq=256)
    first = list_checkpoints(whole / "checkpoints")[0]
    wanted = as_bits(last_state(whole))
    rltrain.resume(first, progress=False)
    assert as_bits(last_state(whole)) == wanted


# A teacher


def test_a_pupil_comes_to_act_as_its_teacher(train: Train) -> None:
    rows: list[float] = []

    class Watch(rltrain.Callback):
        def on_update(self, trainer: Any, metrics: Any) -> None:
            rows.append(float(metrics["train/teacher_loss"]))

    teacher = train(total_timesteps=4096, agent={**AGENT, "learning_rate": 5e-3})
    strong = {**AGENT, "learning_rate": 5e-3, "n_epochs": 8}
    options = {"teacher": teacher, "teacher_coef": 20.0, "total_timesteps": 2048, "seed": 3, "agent": strong}
    rltrain.train("ppo", CARTPOLE, **{**OPTIONS, "run_dir": teacher.parent, "callbacks": [Watch()], **options})
    entropy = 0.69  # of a policy that knows nothing of two actions
    assert rows[0] == pytest.approx(entropy, abs=0.05)
    assert min(rows[-4:]) < rows[0] - 0.1


def test_the_checkpoint_holds_the_teacher_and_the_policy_does_not_need_it(train: Train) -> None:
    teacher = train()
    run = train(teacher=teacher, seed=2)
    held = {name.removeprefix("teacher."): each for name, each in tensors(run).items() if name.startswith("teacher.")}
    taught = load_policy(list_checkpoints(teacher / "checkpoints")[-1])
    assert held.keys() == taught.keys()
    assert all(torch.equal(tensor, taught[name]) for name, tensor in held.items())
    policy = rltrain.load(run)
    assert not [name for name in policy.agent.state_dict() if name.startswith("teacher.")]
    train(init_from=run)  # a pupil is a start like any other


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--reset value", "there is none"),
        ("--teacher-coef 3", "there is none"),
        ("--freeze nothing", "has nothing of this name"),
        ("--freeze 'policy value'", "leaves nothing to learn"),
        ("--learning-rate-scale vf", "'vf' has no factor: give vf=0.1"),
        ("--learning-rate-scale vf=0", "greater than 0"),
        ("--init-from run --reset nothing", "has nothing of this name"),
        ("--teacher nowhere", "no run folder 'nowhere'"),
        ("--teacher other", "those here"),
    ],
)
def test_mistakes(
    words: str,
    text: str,
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import shlex

    monkeypatch.chdir(tmp_path)
    if "run" in words:
        train().rename("run")
    if "other" in words:
        train(env=ACROBOT).rename("other")
    small = "--total-timesteps 128 --num-envs 4 --agent.n-steps 16 --agent.policy-kwargs.net-arch [16,16]"
    assert main(["train", "ppo", CARTPOLE, "--run-dir", "out", *small.split(), *shlex.split(words)]) in (2, 4)
    error = capsys.readouterr().err
    assert text in error, error
    assert "fix:" in error
    assert not Path("out").exists()


def test_agents_that_cannot_say_so(train: Train) -> None:
    teacher = train()
    with pytest.raises(ConfigError, match="DQN cannot learn from a teacher"):
        train("dqn", agent={}, teacher=teacher)
    with pytest.raises(ConfigError, match="which --freeze does not reach"):
        train("sb3/ppo", agent={}, freeze="policy")
