"""Stable-Baselines3's algorithms as agents: runs, checkpoints and logs like those of any agent."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from broken_numbers import BrokenNumbers
from countdown import Countdown
from safetensors.torch import load_file

import rltrain
from rltrain import sb3
from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.registry import agent_config_class
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import POLICY, TRAINING
from rltrain.sb3 import algorithms
from rltrain.sb3.trainer import SB3Trainer
from rltrain.settings import build_config, to_yaml, validate
from rltrain.trackers.csv import read_progress

CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"
ON: dict[str, Any] = {"n_steps": 32, "batch_size": 64, "n_epochs": 1}
OFF: dict[str, Any] = {"learning_starts": 60, "buffer_size": 1000, "batch_size": 16, "policy_kwargs": {"net_arch": [8]}}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "sb3/ppo": (CARTPOLE, {**ON, "learning_rate": "lin_0.001"}),
    "sb3/a2c": (
        PENDULUM,
        {"normalize_obs": True, "normalize_reward": True, "policy_kwargs": {"optimizer_class": "Adam"}},
    ),
    "sb3/trpo": (CARTPOLE, {"n_steps": 32, "batch_size": 64}),
    "sb3/dqn": (CARTPOLE, {**OFF, "train_freq": 1}),
    "sb3/qrdqn": (CARTPOLE, {**OFF, "train_freq": 2}),
    "sb3/sac": (PENDULUM, {**OFF, "ent_coef": "auto_0.1"}),
    "sb3/td3": (PENDULUM, {**OFF, "noise_type": "normal"}),
    "sb3/ddpg": (PENDULUM, {**OFF, "noise_type": "ornstein-uhlenbeck", "gradient_steps": -1}),
    "sb3/tqc": (PENDULUM, {**OFF, "train_freq": 4}),
    "sb3/crossq": (PENDULUM, OFF),
}
COMMON = {"rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/episodes", "time/fps", "time/time_elapsed"}
COMMON |= {"time/iterations", "train/learning_rate", "train/n_updates", "eval/mean_reward", "eval/mean_ep_length"}


def train(algo: str, env: Any, run_dir: Path, agent: dict[str, Any], **options: Any) -> rltrain.RunResult:
    given = {"total_timesteps": 512, "num_envs": 8, "n_eval_episodes": 2, "log_interval": 1, **options}
    return rltrain.train(algo, env, progress=False, run_dir=run_dir, agent=agent, **given)


@pytest.mark.parametrize("algo", RUNS)
def test_it_trains_resumes_and_is_evaluated(algo: str, tmp_path: Path) -> None:
    env, agent = RUNS[algo]
    steps = 512 if env == CARTPOLE else 1600  # eight episodes of Pendulum
    result = train(algo, env, tmp_path, agent, total_timesteps=steps, eval_freq=256)
    assert result.run_dir.name == f"{algo.replace('/', '-')}_1"
    assert result.stopped_by == "total_timesteps"
    assert result.evaluation is not None
    progress = read_progress(result.run_dir / "progress.csv")
    assert set(progress) >= COMMON
    assert progress["time/total_timesteps"][-1] == result.steps
    assert progress["rollout/episodes"][-1] >= 8
    first = rltrain.load(result.run_dir)
    before = first.evaluate(4, seed=1).returns

    with pytest.warns(UserWarning, match="Not bit for bit: episodes of Stable-Baselines3 start anew") as said:
        again = rltrain.resume(result.run_dir, total_timesteps=result.steps + 256, progress=False)
    assert ("replay buffer" in str(said[0].message)) == (agent is OFF or "buffer_size" in agent)
    assert again.steps >= result.steps + 256
    then = read_progress(result.run_dir / "progress.csv")
    rows = len(progress["train/n_updates"])
    assert np.nanmax(then["train/n_updates"]) > np.nanmax(progress["train/n_updates"])
    assert then["rollout/episodes"][rows] >= progress["rollout/episodes"][-1]
    assert np.array_equal(rltrain.load(result.run_dir, checkpoint=result.steps).evaluate(4, seed=1).returns, before)


def test_its_tags_are_ours(tmp_path: Path) -> None:
    ours = train("ppo", CARTPOLE, tmp_path, ON, eval_freq=256)
    theirs = train("sb3/ppo", CARTPOLE, tmp_path, ON, eval_freq=256)
    tags = [set(read_progress(run.run_dir / "progress.csv")) for run in (ours, theirs)]
    assert tags[0] - tags[1] == {"train/grad_norm", "train/value_spread"}
    assert tags[1] - tags[0] == set()


def test_training_repeats_and_is_not_disturbed_by_evaluation(tmp_path: Path) -> None:
    runs = [
        train("sb3/ppo", CARTPOLE, tmp_path, ON),
        train("sb3/ppo", CARTPOLE, tmp_path, ON, eval_freq=256, save_freq=256),
        train("sb3/ppo", CARTPOLE, tmp_path, ON, seed=1),
    ]
    first, same, other = (rltrain.load(run.run_dir).agent.state_dict() for run in runs)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_checkpoint_is_tensors_and_text(tmp_path: Path) -> None:
    run = train("sb3/sac", PENDULUM, tmp_path, {**OFF, "normalize_obs": True}, total_timesteps=160).run_dir
    files = {path.suffix for path in run.rglob("*") if path.is_file() and "events" not in path.name}
    assert files <= {".yaml", ".json", ".csv", ".png", ".safetensors", ".lock", ""}
    checkpoint = RunFolder.open(run)[0].checkpoint()[0]
    assert {"actor.mu.weight", "critic_target.qf0.0.weight", "normalizer.obs..mean"} <= set(
        load_file(checkpoint / POLICY)
    )
    training = set(load_file(checkpoint / TRAINING))
    assert {"agent/variables/log_ent_coef", "agent/optimizers/actor.optimizer/state/0/exp_avg"} <= training


def test_a_resumed_replay_buffer_is_filled_by_the_policy_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train("sb3/dqn", CARTPOLE, tmp_path, {**OFF, "train_freq": 1}, total_timesteps=160).run_dir
    sizes: list[int] = []
    learn = SB3Trainer.after_update

    def noted(self: Any) -> None:
        if self.model.num_timesteps > self.global_step:
            sizes.append(self.model.replay_buffer.size() * 8)
        learn(self)

    monkeypatch.setattr(SB3Trainer, "after_update", noted)
    with pytest.warns(UserWarning, match="filled again first"):
        rltrain.resume(run, total_timesteps=400, progress=False)
    assert sizes[0] == 64  # learning_starts=60 in steps of 8 environments, before the first update
    progress = read_progress(run / "progress.csv")
    row = progress["time/total_timesteps"].index(160 + 64)
    assert np.isnan(progress["train/n_updates"][row])
    assert progress["train/n_updates"][row + 1] == np.nanmax(progress["train/n_updates"][:row]) + 1


def test_a_signal_stops_between_updates_and_resume_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SB3Trainer.log

    def logged(self: Any) -> None:
        log(self)
        if self.global_step == 512:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SB3Trainer, "log", logged)
    options = ["--total-timesteps", "1024", "--agent.n-steps", "32", "--agent.batch-size", "64", "--no-progress"]
    assert main(["train", "sb3/ppo", CARTPOLE, "--run-dir", str(tmp_path), *options]) == 130
    run = tmp_path / "rltrain-CartPole-v1" / "sb3-ppo_1"
    metadata = json.loads((run / "metadata.json").read_text())
    assert (metadata["status"], metadata["steps"], metadata["exact_resume"]) == ("interrupted", 512, False)
    assert set(metadata["versions"]) >= {"stable_baselines3"}
    with pytest.warns(UserWarning, match="start anew"):
        result = rltrain.resume(run, progress=False)
    assert (result.steps, result.stopped_by) == (1024, "total_timesteps")


def test_it_stops_at_a_reward_and_films(tmp_path: Path) -> None:
    result = train(
        "sb3/ppo", CARTPOLE, tmp_path, ON, total_timesteps=4096, stop_at_reward=5, stats_window_size=10, video_freq=256
    )
    assert result.stopped_by == "stop_at_reward"
    assert result.steps < 1024
    assert list((result.run_dir / "videos").glob("*.mp4"))
    assert main(["watch", str(result.run_dir), "--out", str(tmp_path / "film.gif")]) == 0
    assert (tmp_path / "film.gif").read_bytes()[:4] == b"GIF8"


def test_an_sb3_run_starts_from_another(tmp_path: Path) -> None:
    first = train("sb3/ppo", CARTPOLE, tmp_path, ON)
    second = train("sb3/ppo", CARTPOLE, tmp_path, {**ON, "learning_rate": 1e-12}, init_from=first.run_dir)
    mine, theirs = (rltrain.load(run.run_dir).agent.state_dict() for run in (first, second))
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in mine)


def test_updates_by_the_episode_and_gsde(tmp_path: Path) -> None:
    agent = {**OFF, "train_freq": [1, "episode"], "use_sde": True, "gradient_steps": 2}
    run = train("sb3/sac", PENDULUM, tmp_path, agent, total_timesteps=500, num_envs=1).run_dir
    progress = read_progress(run / "progress.csv")
    assert progress["time/total_timesteps"] == [200, 400, 600]
    assert progress["train/n_updates"] == [2, 4, 6]
    policy = rltrain.load(run)
    noisy = [policy.evaluate(2, deterministic=False, seed=3).returns for _ in range(2)]
    assert np.array_equal(*noisy)
    assert not np.array_equal(noisy[0], policy.evaluate(2, seed=3).returns)


def test_loading_leaves_the_process_alone(tmp_path: Path) -> None:
    run = train("sb3/ppo", CARTPOLE, tmp_path, ON, n_eval_episodes=0).run_dir
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1).item(), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    rltrain.load(run)
    assert (torch.rand(1).item(), np.random.rand()) == expected


def test_schedules_hold_their_end_in_a_longer_run(tmp_path: Path) -> None:
    run = train("sb3/ppo", CARTPOLE, tmp_path, {**ON, "learning_rate": "lin_0.001"}, total_timesteps=512).run_dir
    with pytest.warns(UserWarning, match="Linear schedules ended"):
        rltrain.resume(run, total_timesteps=1024, progress=False)
    rates = read_progress(run / "progress.csv")["train/learning_rate"]
    assert rates == pytest.approx([0.0005, 0.0, 0.0, 0.0], abs=1e-9)


def test_classes_without_a_name_train(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the action mask is a part of the observation"):
        result = train("sb3/ppo", Countdown, tmp_path, ON)
    policy = rltrain.load(result.run_dir, env=Countdown)
    action, _ = policy.predict({"observation": np.array([5.0, 0.0]), "action_mask": np.array([1, 1, 1], dtype=np.int8)})
    assert action in (0, 1, 2)
    again = [policy.evaluate(8, deterministic=False, seed=3).returns for _ in range(2)]
    assert np.array_equal(*again)


@pytest.mark.parametrize(
    ("words", "cause", "fix"),
    [
        (["sb3/ppoo", CARTPOLE], "no agent 'sb3/ppoo'", "sb3/ppo"),
        (["sb3/ppo", CARTPOLE, "--agent.n-step", "3"], "no option 'agent.n_step'", "n_steps"),
        (["sb3/ppo", CARTPOLE, "--agent.policy-kwargs.net-arc", "[3]"], "'agent.policy_kwargs.net_arc'", "net_arch"),
        (["sb3/ppo", CARTPOLE, "--agent.gamma", "2"], "agent.gamma=2 does not fit", "another value"),
        (["sb3/ppo", CARTPOLE, "--agent.buffer-size", "3"], "no option 'agent.buffer_size'", ""),
        (["sb3/ppo", CARTPOLE, "--agent.verbose", "1"], "no option 'agent.verbose'", ""),
        (["sb3/ppo", CARTPOLE, "--agent.use-sde", "true"], "PPO of Stable-Baselines3 refuses this", "agents sb3/ppo"),
        (["sb3/sac", CARTPOLE], "SAC of Stable-Baselines3 refuses this", "agents sb3/sac"),
        (["sb3/td3", PENDULUM, "--agent.noise-type", "pink"], "agent.noise_type", "another value"),
        (["sb3/dqn", CARTPOLE, "--agent.train-freq", "[1, episode]"], "take one environment, not 8", "sb3/dqn"),
        (["sb3/dqn", CARTPOLE, "--agent.optimize-memory-usage", "true"], "handle_timeout_termination", "sb3/dqn"),
        (["sb3/dqn", CARTPOLE, "--agent.buffer-size", "100000000000"], "The experience to keep takes", "buffer-size"),
        (["sb3/dqn", CARTPOLE, "--agent.train-freq", "[1, day]"], "DQN of Stable-Baselines3 refuses this", "sb3/dqn"),
    ],
)
def test_mistakes_are_named_before_anything_is_made(
    words: list[str], cause: str, fix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words, "--run-dir", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert cause in error
    assert fix in error
    assert not (tmp_path / "runs").exists()


def test_callbacks_that_want_episodes_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    class Curious(rltrain.Callback):
        def on_episodes(self, trainer: Any, episodes: Any) -> None:
            raise AssertionError

    with pytest.raises(ConfigError, match="There are no episodes as tensors in a run of sb3/ppo"):
        train("sb3/ppo", CARTPOLE, tmp_path / "runs", ON, callbacks=[Curious()])
    assert not (tmp_path / "runs").exists()
    run = train("sb3/ppo", CARTPOLE, tmp_path / "runs", ON, n_eval_episodes=0).run_dir
    before = (run / "metadata.json").read_text()
    with pytest.raises(ConfigError, match="There are no episodes as tensors"):
        rltrain.resume(run, total_timesteps=4096, progress=False, callbacks=[Curious()])
    assert (run / "metadata.json").read_text() == before


def test_without_the_package_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(algorithms, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as refused:
        sb3.need("sb3_contrib")
    assert refused.value.fix == "Run: pip install 'rltrain[sb3]'"
    described = {}
    monkeypatch.setattr(
        sb3, "register_agent", lambda name, *_, description, **__: described.update({name: description})
    )
    sb3.register()
    assert described["sb3/ppo"] == "Stable-Baselines3: Proximal Policy Optimization. Needs: pip install 'rltrain[sb3]'"


def test_settings_are_those_of_the_constructor() -> None:
    config, source = build_config("sb3/sac", PENDULUM, {"agent": {"train_freq": [2, "step"], "ent_coef": 0.1}})
    assert source == "the agent's own defaults"
    agent = config.agent
    assert (agent.buffer_size, agent.train_freq, agent.ent_coef) == (1_000_000, (2, "step"), 0.1)  # type: ignore[attr-defined]
    assert (
        type(agent).model_fields["tau"].description == 'The soft update coefficient ("Polyak update", between 0 and 1)'
    )
    data = yaml.safe_load(to_yaml(config))
    assert validate(agent_config_class("sb3/sac"), data["agent"]) == agent


def test_agents_and_help_list_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents"]) == 0
    assert {f"sb3/{name.lower()}" for name in sb3.ALGORITHMS} < set(capsys.readouterr().out.split())
    assert main(["train", "--help"]) == 0
    assert "options of sb3/" not in capsys.readouterr().out
    assert main(["train", "sb3/ppo", "--help"]) == 0
    assert "--agent.policy-kwargs.share-features-extractor" in capsys.readouterr().out


@pytest.mark.parametrize(("where", "at"), [("reward", 21), ("observation", 20), ("final_obs", 21)])
def test_numbers_that_are_not_finite_are_noticed_at_once(where: str, at: int, tmp_path: Path) -> None:
    options = {"env_kwargs": {"where": where, "at": at}, "env_options": {"max_episode_steps": 7}, "num_envs": 4}
    options |= {"save_freq": 64, "total_timesteps": 640, "n_eval_episodes": 0}
    agent = {"n_steps": 16, "batch_size": 64, "n_epochs": 1}
    with pytest.raises(rltrain.RunError, match=rf"The {where} is not finite .* in environment 2 at step {4 * at}\."):
        rltrain.train("sb3/ppo", BrokenNumbers, agent=agent, progress=False, run_dir=tmp_path, **options)
    saved = list(tmp_path.glob("*/*/checkpoints/*"))
    assert [path.name for path in saved] == ["step_000000000064"]


def test_a_loss_that_is_not_finite_is_noticed_before_it_is_logged(tmp_path: Path) -> None:
    """The first update of a rate far too high makes the second one's loss overflow; the first log point is far away."""
    agent = {"learning_rate": 1e30, "learning_starts": 0, "train_freq": 4, "batch_size": 4}
    options = {"log_interval": 1_000, "num_envs": 4, "total_timesteps": 4_000, "n_eval_episodes": 0}
    with pytest.raises(rltrain.RunError, match=r"^The loss is (not finite|beyond what float32 can square) after"):
        rltrain.train("sb3/dqn", "rltrain/CartPole-v1", agent=agent, progress=False, run_dir=tmp_path, **options)
    logged = (tmp_path / "rltrain-CartPole-v1" / "sb3-dqn_1" / "progress.csv").read_text()
    assert logged == "time/total_timesteps\n"
