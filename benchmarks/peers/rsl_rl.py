"""rsl_rl in the batched CartPole, with a distribution over two actions, which it lacks."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from rsl_rl.algorithms import PPO
from rsl_rl.env import VecEnv
from rsl_rl.modules.distribution import Distribution
from tensordict import TensorDict
from torch import Tensor

from benchmarks.peers import SOLVED, WINDOW
from benchmarks.peers.cartpole import BatchedCartPole

BATCHED = {  # for 64 environments
    "n_steps": 32,
    "batch_size": 512,
    "n_epochs": 10,
    "learning_rate": 3e-3,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "clip_range": 0.2,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
}
STEPS = 200_000  # at most


class Categorical(Distribution):
    """Discrete actions; each of the ``output_dim`` = 1 outputs is the index of an action."""

    actions = 2
    input_dim = actions  # type: ignore[assignment]

    def update(self, mlp_output: Tensor) -> None:
        self.log_probs = mlp_output.log_softmax(-1)

    def sample(self) -> Tensor:
        return torch.multinomial(self.log_probs.exp(), 1).float()

    @property
    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(-1)

    @property
    def params(self) -> tuple[Tensor, ...]:
        return (self.log_probs,)

    def log_prob(self, outputs: Tensor) -> Tensor:
        return self.log_probs.gather(-1, outputs.long()).squeeze(-1)


class CartPole(VecEnv):
    """The batched CartPole with tensors in and out."""

    def __init__(self, num_envs: int, seed: int) -> None:
        self.env = BatchedCartPole(num_envs)
        self.num_envs, self.num_actions, self.device, self.cfg = num_envs, 1, "cpu", {}
        self.max_episode_length = self.env.max_episode_steps
        self.obs = self.env.reset(seed=seed)[0]
        self.returns: deque[float] = deque(maxlen=WINDOW)

    def get_observations(self) -> TensorDict:
        return TensorDict({"policy": torch.from_numpy(self.obs)}, batch_size=[self.num_envs])

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Any]]:
        self.obs, reward, terminated, truncated, ended = self.env.step(actions.squeeze(-1).long().numpy())
        if ended:
            self.returns.extend(ended["lengths"].tolist())
        done = torch.from_numpy(terminated | truncated).long()
        extras = {"time_outs": torch.from_numpy(truncated).float()}
        return self.get_observations(), torch.from_numpy(reward), done, extras


class Loop:
    """PPO in its environments, trained as by ``OnPolicyRunner``, without logging."""

    def __init__(self, num_envs: int, net_arch: list[int], agent: dict[str, Any], seed: int) -> None:
        torch.manual_seed(seed)
        self.env, self.n_steps = CartPole(num_envs, seed), agent["n_steps"]
        network = {"class_name": "MLPModel", "hidden_dims": net_arch, "activation": "tanh"}
        config = {
            "num_steps_per_env": self.n_steps,
            "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
            "multi_gpu": None,
            "actor": {**network, "distribution_cfg": {"class_name": Categorical}},
            "critic": network,
            "algorithm": {
                "class_name": "PPO",
                "num_learning_epochs": agent["n_epochs"],
                "num_mini_batches": num_envs * self.n_steps // agent["batch_size"],
                "learning_rate": agent["learning_rate"],
                "gamma": agent["gamma"],
                "lam": agent["gae_lambda"],
                "clip_param": agent["clip_range"],
                "entropy_coef": agent["ent_coef"],
                "value_loss_coef": agent["vf_coef"],
                "max_grad_norm": agent["max_grad_norm"],
                "use_clipped_value_loss": False,
                "normalize_advantage_per_mini_batch": True,
                "schedule": "fixed",
                "desired_kl": None,
            },
        }
        self.obs = self.env.get_observations()
        self.agent = PPO.construct_algorithm(self.obs, self.env, config, "cpu")
        self.agent.train_mode()

    def iterate(self) -> int:
        """A rollout and an update; returns the transitions."""
        with torch.inference_mode():
            for _ in range(self.n_steps):
                self.obs, *outcome = self.env.step(self.agent.act(self.obs))
                self.agent.process_env_step(self.obs, *outcome)
            self.agent.compute_returns(self.obs)
        self.agent.update()
        return int(self.n_steps * self.env.num_envs)


def training(how: str, point: dict[str, Any], seed: int) -> Callable[[], int] | None:
    """PPO."""
    if point["algo"] != "ppo":
        return None
    return Loop(point["num_envs"], point["net_arch"], point["agent"], seed).iterate


def solving(how: str, seed: int) -> dict[str, Any]:
    """PPO in 64 environments."""
    loop = Loop(64, [64, 64], BATCHED, seed)
    steps, solved, begin = 0, False, time.perf_counter()
    while not solved and steps < STEPS:
        steps += loop.iterate()
        solved = len(loop.env.returns) == WINDOW and statistics.mean(loop.env.returns) >= SOLVED
    seconds = time.perf_counter() - begin
    settings = {"num_envs": 64, **BATCHED}
    return {"seconds": round(seconds, 3), "steps": steps, "solved": solved, "settings": settings}
