"""Mistakes that mypy and pyright are to report, one in every line that ends with a comment; see test_typing.py."""

from __future__ import annotations

import torch

import rltrain
from rltrain import Trainer  # a name that does not exist


class NoEnvironment:
    pass


class Watch(rltrain.Callback):
    def on_rollout(self, trainer: int) -> None:  # a callback is given the run
        pass


class Walk(rltrain.TensorEnv[torch.Tensor]):
    def observe(self, state: torch.Tensor) -> int:  # an observation is a tensor
        return len(state)


rltrain.trian("ppo", "rltrain/CartPole-v1")  # a name that does not exist
rltrain.train("ppo", 3)  # an environment is an id or a class
rltrain.train("ppo", NoEnvironment)  # the class must be one of an environment
rltrain.train("ppo", "rltrain/CartPole-v1", callbacks=[print])  # a callback is an object
rltrain.load("runs/ppo_1", checkpoints="best")  # the argument is called checkpoint
policy = rltrain.load("runs/ppo_1")
policy.predictions(torch.zeros(4))  # a method that does not exist
print(rltrain.evaluate(policy, episodes="ten"))  # a number
print(policy.evaluate(10).mean_rewards)  # an attribute that does not exist
rltrain.make_vec("rltrain/CartPole-v1", "8")  # a number
vec = rltrain.make_vec("rltrain/CartPole-v1", 8)
print(vec.step(torch.zeros(8)).done)  # terminated or truncated
rltrain.register_env("you/Walk-v0", "walk:Walk", max_steps=100)  # it is max_episode_steps
print(rltrain.train("ppo", "rltrain/CartPole-v1").run_dir + "/videos")  # a path is joined by /
print(Trainer)
