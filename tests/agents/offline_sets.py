"""Small datasets for agents that learn from one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain.agents.atc.agent import ATC
from rltrain.agents.atc.config import ATCConfig
from rltrain.agents.bc.agent import BC
from rltrain.agents.bc.config import BCConfig
from rltrain.agents.cql.agent import CQL
from rltrain.agents.cql.config import CQLConfig
from rltrain.agents.iql.agent import IQL
from rltrain.agents.iql.config import IQLConfig
from rltrain.config import AgentConfig
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
from rltrain.evaluation.limits import Limits
from rltrain.recording.rounds import Contributor, record_rounds

CARTPOLE = "rltrain/CartPole-v1"
OBS = spaces.Box(-1.0, 1.0, (4,), np.float32)
CHOICE, NUMBERS = spaces.Discrete(3, start=2), spaces.Box(-2.0, 2.0, (2,), np.float32)
CONFIGS: dict[Any, type[AgentConfig]] = {ATC: ATCConfig, BC: BCConfig, IQL: IQLConfig, CQL: CQLConfig}


def make_set(
    path: Path,
    action_space: spaces.Space = CHOICE,
    *,
    lengths: tuple[int, ...] = (5, 3, 8, 1, 6) * 8,
    masked: bool = False,
    nan_behind_terminations: bool = False,
    has_final: list[bool] | None = None,
    **options: Any,
) -> Dataset:
    """Random episodes: of five one is cut by a time limit, one ends without a label, and the others terminate."""
    rng, steps, ends = np.random.default_rng(0), sum(lengths), np.cumsum(lengths) - 1
    obs = rng.uniform(-1, 1, (steps, 4)).astype(np.float32)
    finals = rng.uniform(-1, 1, (len(lengths), 4)).astype(np.float32)
    action_space.seed(0)
    action = np.stack([action_space.sample() for _ in range(steps)])
    terminated, truncated = np.zeros(steps, bool), np.zeros(steps, bool)
    kinds = np.arange(len(lengths)) % 5
    terminated[ends[kinds > 1]], truncated[ends[kinds == 0]] = True, True
    if nan_behind_terminations:
        finals[kinds > 1] = np.nan
    reward = rng.normal(size=steps).astype(np.float32)
    columns = {"obs": obs, "action": action, "reward": reward, "terminated": terminated, "truncated": truncated}
    after, space = {"obs": finals}, OBS
    if masked:
        mask = np.ones((steps, 3), np.int8)
        mask[np.arange(steps), (action - 2 + 1) % 3] = rng.integers(2, size=steps)
        columns |= {"obs.observation": columns.pop("obs"), "obs.action_mask": mask}
        after = {"obs.observation": finals, "obs.action_mask": np.zeros((len(lengths), 3), np.int8)}
        space = spaces.Dict({"observation": OBS, "action_mask": spaces.MultiBinary(3)})
    extra = {} if has_final is None else {"has_final": np.array(has_final)}
    with DatasetWriter(path, space, action_space, **options) as writer:
        writer.add(columns, list(lengths), after, **extra)
    return Dataset.open(path)


def make_offline(kind: Any, dataset: Dataset, seed: int = 0, device: str = "cpu", **options: Any) -> Any:
    """A small agent that learns from a dataset."""
    given = {"batch_size": 16, "gradient_steps": 3, "policy_kwargs": {"net_arch": [16]}, **options}
    config = CONFIGS[kind].model_validate(given)
    agent = kind(dataset.observation_space, dataset.action_space, 1, config, device=device, seed=seed)
    agent.check()
    agent.use_data(dataset)
    return agent


def half_random_cartpole(path: Path, episodes: int = 100) -> Dataset:
    """CartPole by a rule that keeps the pole up, whose action is a random one in half of the steps."""
    rng = torch.Generator().manual_seed(0)

    def act(obs: Tensor) -> Tensor:
        good = (obs @ torch.tensor([0.05, 0.1, 1.0, 0.5]) > 0).long()
        noise = torch.rand(len(obs), 2, generator=rng)
        return torch.where(noise[:, 0] < 0.5, (noise[:, 1] < 0.5).long(), good)

    with closing(rltrain.make_vec(CARTPOLE, episodes)) as vec:
        seen = vec.single_observation_space, vec.single_action_space
        environment = {"id": CARTPOLE, "options": {}}
        with DatasetWriter(path, *seen, policies=[{"name": "rule"}], environment=environment) as writer:
            who = [Contributor(lambda *_: act, episodes, {"name": "rule"})]
            record_rounds(vec, who, writer, seed=0, limits=Limits(seconds=None))
    return Dataset.open(path)
