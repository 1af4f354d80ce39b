"""Networks of the user's own: trained, saved by name alone, and loaded when the class is handed over again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from countdown import Countdown
from gymnasium import spaces
from torch import Tensor, nn

import rltrain
from rltrain.agents.parts.custom_networks import blank
from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.runs.layout import list_checkpoints

OPTIONS: dict[str, Any] = {
    "total_timesteps": 512,
    "num_envs": 8,
    "num_threads": 1,
    "n_eval_episodes": 3,
    "progress": False,
}
AGENT: dict[str, Any] = {"n_steps": 32, "batch_size": 64, "n_epochs": 1, "learning_rate": 0.001}
PENDULUM = "rltrain/Pendulum-v1"


class Waves(nn.Module):
    """Sines of the observation: no layers of rltrain's."""

    def __init__(self, observation_space: spaces.Box, features: int = 12) -> None:
        super().__init__()
        self.size = features
        self.layer = nn.Linear(observation_space.shape[0], features)
        nn.init.constant_(self.layer.weight, 0.125)

    def forward(self, obs: Tensor) -> Tensor:
        return self.layer(obs).sin()


class Whole(nn.Module):
    """One trunk for actions and value."""

    def __init__(self, observation_space: spaces.Space, outputs: int, width: int = 16) -> None:
        super().__init__()
        parts = observation_space["observation"] if isinstance(observation_space, spaces.Dict) else observation_space
        self.trunk = nn.Sequential(nn.Linear(parts.shape[0], width), nn.ReLU())
        self.heads = nn.Linear(width, outputs + 1)

    def forward(self, obs: Any) -> tuple[Tensor, Tensor]:
        out = self.heads(self.trunk(obs["observation"] if isinstance(obs, dict) else obs))
        return out[:, :-1], out[:, -1]


class Sb3Like(nn.Module):
    """As SB3's extractors name it."""

    features_dim = 3

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__()

    def forward(self, obs: Tensor) -> Tensor:
        return obs


ENCODER = {"features_extractor_class": Waves, "features_extractor_kwargs": {"features": 20}}
NETWORK = {"network_class": Whole, "network_kwargs": {"width": 24}}


def train(folder: Path, env: Any, policy_kwargs: dict[str, Any], **changes: Any) -> rltrain.RunResult:
    agent = {**AGENT, "policy_kwargs": policy_kwargs}
    return rltrain.train("ppo", env, run_dir=folder, agent=agent, **{**OPTIONS, **changes})


@pytest.mark.parametrize(
    ("env", "kwargs", "cls"), [(PENDULUM, ENCODER, Waves), (PENDULUM, NETWORK, Whole), (Countdown, NETWORK, Whole)]
)
def test_trained_loaded_and_resumed(tmp_path: Path, env: Any, kwargs: dict[str, Any], cls: type) -> None:
    result = train(tmp_path, env, kwargs)
    saved = yaml.safe_load((result.run_dir / "config.yaml").read_text())["agent"]["policy_kwargs"]
    assert f"own:{cls.__name__}" in saved.values()
    where = {} if isinstance(env, str) else {"env": env}
    policy = rltrain.load(result.run_dir, classes=[int, cls], **where)
    assert sum(isinstance(module, cls) for module in policy.agent.modules()) == 1
    assert result.evaluation is not None
    assert np.array_equal(policy.evaluate(3).returns, result.evaluation.returns)

    rltrain.resume(result.run_dir, classes=[cls], total_timesteps=1_024, progress=False, **where)
    straight = train(tmp_path / "straight", env, kwargs, total_timesteps=1_024).run_dir
    resumed, whole = (list_checkpoints(run / "checkpoints")[-1] for run in (result.run_dir, straight))
    assert (resumed / "policy.safetensors").read_bytes() == (whole / "policy.safetensors").read_bytes()


def test_a_run_that_names_a_class_is_not_loaded_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tmp_path, PENDULUM, ENCODER).run_dir
    (tmp_path / "evil_network.py").write_text("import sys; sys.evil_network = True\nclass Waves: pass")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Waves", "evil_network.Waves", "evil_network:Waves"):
        text = (run / "config.yaml").read_text()
        config = yaml.safe_load(text)
        config["agent"]["policy_kwargs"]["features_extractor_class"] = f"own:{name}"
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(ConfigError, match=rf"class '{name}'.*classes=\[{name}\]"):
            rltrain.load(run)
        for words in (["eval", str(run)], ["watch", str(run)], ["resume", str(run), "--total-timesteps", "9999"]):
            assert main(words) == 2
            assert "the run folder names but does not contain" in capsys.readouterr().err
    assert "evil_network" not in __import__("sys").modules


def test_dqn_takes_an_encoder_too(tmp_path: Path) -> None:
    agent = {"policy_kwargs": ENCODER, "learning_starts": 64, "buffer_size": 1_000, "learning_rate": 0.001}
    options = {"run_dir": tmp_path, "agent": agent, **OPTIONS}
    result = rltrain.train("dqn", "rltrain/CartPole-v1", **options)
    policy = rltrain.load(result.run_dir, classes=[Waves])
    assert policy.agent.policy.encoder.module.size == 20  # type: ignore[union-attr]
    assert result.evaluation is not None
    assert np.array_equal(policy.evaluate(3).returns, result.evaluation.returns)


def test_an_encoder_keeps_the_weights_its_author_gave_it() -> None:
    from echo import make_agent

    agent = make_agent(spaces.Box(-1, 1, (3,)), policy_kwargs={"features_extractor_class": Waves})
    assert (agent.policy.encoder.module.layer.weight == 0.125).all()  # type: ignore[union-attr]
    assert (
        make_agent(spaces.Box(-1, 1, (3,)), policy_kwargs={"features_extractor_class": Sb3Like}).policy.encoder.size
        == 3
    )


class NoSize(Waves):
    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space)
        del self.size


class WrongSize(Waves):
    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space)
        self.size = 7


class Failing(Waves):
    def forward(self, obs: Tensor) -> Tensor:
        return self.layer(obs[:, :1])


class FlatValue(Whole):
    def forward(self, obs: Any) -> tuple[Tensor, Tensor]:
        params, value = super().forward(obs)
        return params, value.unsqueeze(1)


class NoModule:
    def __init__(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"features_extractor_class": NoSize}, "NoSize has no attribute 'size'"),
        ({"features_extractor_class": WrongSize}, r"WrongSize gives \(2, 12\).*It is to give \(2, 7\)"),
        ({"features_extractor_class": Failing}, "Failing fails on two blank observations"),
        ({"features_extractor_class": NoModule}, "NoModule is no network"),
        ({"features_extractor_class": Waves, "features_extractor_kwargs": {"size": 3}}, "Waves cannot be made"),
        ({"network_class": FlatValue}, r"FlatValue gives \(2, 1\) and \(2, 1\).*give \(2, 1\) and \(2,\)"),
        ({"features_extractor_class": "Waves"}, "should be 'auto' or 'flatten'"),
        ({"network_class": "Whole"}, "class of your own, passed in from Python"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    tmp_path: Path, kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        train(tmp_path / "runs", PENDULUM, kwargs)
    assert caught.value.fix
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2, 3)),
        spaces.Box(3, 5, (2,), np.int64),
        spaces.Discrete(3, start=2),
        spaces.MultiDiscrete([2, 3], start=[1, 4]),
        spaces.MultiBinary(3),
        spaces.Dict({"observation": spaces.Box(0, 1, (2,)), "action_mask": spaces.MultiBinary(2)}),
    ],
    ids=str,
)
def test_blank_observations_are_in_their_space(space: spaces.Space) -> None:
    batch = blank(space, 2)
    row = {name: part[1].numpy() for name, part in batch.items()} if isinstance(batch, dict) else batch[1].numpy()
    assert row in space
    if isinstance(batch, dict):
        assert torch.equal(batch["action_mask"], torch.ones(2, 2, dtype=torch.int8))
