"""What a user writes, as mypy (strict) and pyright are to accept it; test_typing.py has both read this file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_type

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

import rltrain


# 1. Train with options, and read the result.
def train() -> Path:
    result = rltrain.train(
        "ppo",
        "rltrain/CartPole-v1",
        total_timesteps=2_048,
        n_eval_episodes=8,
        seed=1,
        agent={"learning_rate": "lin_0.001"},
        env_kwargs={"gravity": 9.81},
    )
    assert_type(result, rltrain.RunResult)
    assert_type(result.evaluation, rltrain.Evaluation | None)
    if result.evaluation is not None:
        assert_type(result.evaluation.mean_reward, float)
        low, high = result.evaluation.ci95()
        print(low + high, result.evaluation.lengths.max())
    return result.run_dir


# 2. Load a policy and drive a Gymnasium environment with it.
def drive(run: Path) -> float:
    policy = rltrain.load(run, device="cpu")
    assert_type(policy, rltrain.Policy)
    env = gymnasium.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    total, done, state = 0.0, False, None
    while not done:
        action, state = policy.predict(obs, state, deterministic=True)
        obs, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        done = terminated or truncated
    many, _ = policy.predict(np.zeros((8, 4), dtype=np.float32))
    print(many.shape)
    return total


# 3. Evaluate a run, a policy and a function.
def score(run: Path) -> list[float]:
    def upright(obs: Tensor) -> Tensor:
        return (obs[:, 2] + obs[:, 3] > 0).long()

    scores = [
        rltrain.evaluate(run, episodes=10),
        rltrain.evaluate(rltrain.load(run), "rltrain/CartPole-v1", deterministic=False, gravity=1.6),
        rltrain.evaluate(upright, "rltrain/CartPole-v1", 5),
        rltrain.evaluate(lambda obs: (obs[:, 2] > 0).long(), "rltrain/CartPole-v1", 5),
        rltrain.load(run).evaluate(5),
    ]
    assert_type(scores, list[rltrain.Evaluation])
    return [each.mean_reward for each in scores]


# 4. Look on while an agent trains.
class Lengths(rltrain.Callback):
    def __init__(self) -> None:
        self.longest = 0

    def on_episodes(self, trainer: rltrain.Training, episodes: rltrain.Episodes) -> None:
        if len(episodes.lengths):
            self.longest = max(self.longest, int(episodes.lengths.max()))
        if self.longest == 500:
            trainer.stop()

    def on_checkpoint(self, trainer: rltrain.Training, path: Path) -> None:
        print(trainer.global_step, path.name, trainer.latest["rollout/ep_rew_mean"], trainer.folder.path)

    def on_update(self, trainer: rltrain.Training, metrics: dict[str, Tensor | float]) -> None:
        print(trainer.config.seed, float(metrics["train/loss"]))


# 5. An environment, generic in its state.
@dataclass
class Walk:
    place: Tensor  # (N,) m from the goal


class WalkHome(rltrain.TensorEnv[Walk]):
    observation_space = spaces.Box(-10.0, 10.0, (1,))
    action_space = spaces.Discrete(2)
    max_episode_steps = 50

    def __init__(self, *, far: float = 8.0, **base: Any) -> None:
        super().__init__(**base)
        self.far = self.constant("far", far, above=0)

    def reset(self, n: int, rng: torch.Generator | None) -> Walk:
        return Walk(self.far * (2 * torch.rand(n, generator=rng, device=self.device) - 1))

    def step(self, state: Walk, action: Tensor, rng: torch.Generator | None) -> tuple[Walk, Tensor, Tensor]:
        place = (state.place + 2.0 * action - 1.0).clamp(-10, 10)
        return Walk(place), -torch.ones_like(place), place.abs() < 0.5

    def observe(self, state: Walk) -> Tensor:
        return state.place.unsqueeze(-1)


# 6. Environments in a loop of one's own.
def loop() -> Tensor:
    vec = rltrain.make_vec("rltrain/CartPole-v1", num_envs=256, device="cpu")
    network = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
    rewards = []
    obs = vec.reset(seed=0)
    for _ in range(64):
        step = vec.step(network(obs).argmax(-1))
        assert_type(step.reward, Tensor)
        rewards.append(step.reward.masked_fill(step.terminated | step.truncated, 0.0))
        obs = step.obs
        print(obs.shape, step.final_obs.shape)
    print(vec.num_envs, vec.single_action_space)
    vec.close()
    plain: rltrain.VecEnv[Tensor] = rltrain.make_vec(WalkHome, 8, frame_stack=4)
    assert_type(plain.reset(seed=0), Tensor)
    assert_type(plain.step(torch.zeros(8)).obs, Tensor)
    masked: rltrain.VecEnv[dict[str, Tensor]] = rltrain.make_vec("rltrain/Game2048-v0", 8)
    assert_type(masked.reset(seed=0)["action_mask"], Tensor)
    one = rltrain.make_env(WalkHome, far=3.0)
    print(one.observe(one.reset(5, None)))
    return torch.stack(rewards)


# 7. Register what one has made.
def register() -> None:
    rltrain.register_env("you/WalkHome-v0", WalkHome, description="Walk home.", max_episode_steps=100)
    rltrain.register_env("you/Other-v0", "your_package.walk:Walk", kwargs={"far": 2.0}, configs="your_package.configs")


# 8. Check it.
def check() -> bool:
    report = rltrain.check_env(WalkHome, device="cpu", far=2.0)
    for finding in report.findings:
        print(finding.level, finding.message, finding.fix)
    vec = rltrain.make_vec(WalkHome, 16)
    return not report.findings and not rltrain.check_vec_env(vec).findings


# 9. Several seeds at once; each has ended well or with an error.
def seeds() -> dict[int, float]:
    scores = {}
    for seed, result in rltrain.train_seeds("ppo", WalkHome, 2, total_timesteps=512, callbacks=[Lengths()]).items():
        if isinstance(result, rltrain.RLTrainError):
            print(seed, result.cause, result.fix, result.exit_code)
        elif result.evaluation is not None:
            scores[seed] = result.evaluation.mean_reward
    return scores


# 10. Networks and an agent of one's own.
class Fourier(nn.Module):
    def __init__(self, observation_space: spaces.Box, waves: int = 16) -> None:
        super().__init__()
        self.size = 2 * waves
        self.frequencies = nn.Parameter(torch.randn(observation_space.shape[0], waves))

    def forward(self, obs: Tensor) -> Tensor:
        phases = obs @ self.frequencies
        return torch.cat((phases.sin(), phases.cos()), 1)


class StubbornConfig(rltrain.AgentConfig):
    action: int = 0
    """What it always does."""
    n_steps: int = 32
    """Steps of each environment between two updates."""


class Always(rltrain.Actor):
    def __init__(self, action: int) -> None:
        super().__init__()
        self.action = nn.Parameter(torch.tensor(action), requires_grad=False)

    def choose(
        self, obs: rltrain.Observation, state: Any, *, deterministic: bool, rng: torch.Generator | None
    ) -> rltrain.ActOut:
        rows = len(obs) if isinstance(obs, Tensor) else len(obs["observation"])
        return rltrain.ActOut(self.action.expand(rows))


class Stubborn(rltrain.Agent):
    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        num_envs: int,
        config: StubbornConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        self.horizon = config.n_steps
        self.actor = Always(config.action).to(self.device)

    def act(self, obs: rltrain.Observation, state: Any = None) -> rltrain.ActOut:
        return self.predict(obs, state)

    def record(self, out: rltrain.ActOut, step: rltrain.VecStep) -> None:
        self.reward = step.reward.mean()

    def learn(self) -> dict[str, Tensor | float]:
        return {"train/reward": self.reward, "train/loss": 0.0}

    def training_state(self) -> dict[str, Any]:
        return {}

    def load_training_state(self, state: dict[str, Any]) -> None:
        pass


def own() -> rltrain.Policy:
    kwargs = {"features_extractor_class": Fourier, "features_extractor_kwargs": {"waves": 32}}
    agent = {"policy_kwargs": kwargs}
    result = rltrain.train("ppo", WalkHome, agent=agent, total_timesteps=512, progress=False, callbacks=[Lengths()])
    rltrain.register_agent("stubborn", Stubborn, StubbornConfig, description="Never learns.")
    rltrain.train("stubborn", WalkHome, agent={"action": 1}, total_timesteps=512)
    try:
        rltrain.resume(result.run_dir, total_timesteps=1_024, env=WalkHome, classes=[Fourier])
    except (rltrain.ConfigError, rltrain.CheckpointError, rltrain.RunError) as error:
        print(error.cause, error.fix)
    return rltrain.load(result.run_dir, env=WalkHome, classes=[Fourier])
