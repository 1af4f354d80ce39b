"""Search spaces: what they say, what they refuse, and that those which are shipped fit their agents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from rltrain.errors import ConfigError
from rltrain.registry import agent_specs
from rltrain.search.request import SweepRequest
from rltrain.search.space import parse_space, read_space, shipped_space


class Draws:
    """A trial that notes what it is asked, and answers with the first value."""

    def __init__(self, **answers: Any) -> None:
        self.asked: dict[str, Any] = {}
        self.answers = answers

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked[name] = (low, high, log)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.asked[name] = (low, high, log)
        return low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked[name] = list(choices)
        return self.answers.get(name.rpartition(".")[2], choices[0])


TEXT = """
num_envs: {categorical: [8, 16]}
agent.learning_rate: {log: [1e-5, 1e-2], linear: true}
agent.gae_lambda: {uniform: [0.8, 1]}
agent.n_epochs: {int: [1, 20]}
agent.n_steps: {int_log: [16, 2048]}
agent.normalize_obs: {categorical: [false, true]}
agent.policy_kwargs.net_arch: {categorical: [[64, 64], [256]]}
agent.clip_range: {uniform: [0.1, 0.4], when: {agent.normalize_obs: true}}
"""


def test_every_kind_of_values_is_drawn_and_becomes_settings(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(TEXT)
    space = read_space(tmp_path / "space.yaml")
    trial = Draws(net_arch="[256]")
    drawn = space.draw(trial)
    assert trial.asked == {
        "num_envs": [8, 16],
        "agent.learning_rate": (1e-5, 1e-2, True),
        "agent.gae_lambda": (0.8, 1.0, False),
        "agent.n_epochs": (1, 20, False),
        "agent.n_steps": (16, 2048, True),
        "agent.normalize_obs": [False, True],
        "agent.policy_kwargs.net_arch": ["[64, 64]", "[256]"],
    }
    assert space.settings(drawn) == {
        "num_envs": 8,
        "agent": {
            "learning_rate": "lin_1e-05",
            "gae_lambda": 0.8,
            "n_epochs": 1,
            "n_steps": 16,
            "normalize_obs": False,
            "policy_kwargs": {"net_arch": [256]},
        },
    }
    assert "agent.clip_range" in space.draw(Draws(normalize_obs=True))
    SweepRequest("ppo", "rltrain/CartPole-v1", space).check()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("3", "3 is no mapping of a kind to its values"),
        ("{logg: [1, 2]}", "'logg' is not known there. Did you mean 'log"),
        ("{when: {a: 1}}", "it needs one kind of values"),
        ("{log: [1, 2], int: [1, 2]}", "it has log and int, one too many"),
        ("{log: [0, 1]}", "0 has no logarithm"),
        ("{log: [1]}", "is no list of two numbers"),
        ("{uniform: [2, 1]}", "2 is not below 1"),
        ("{uniform: [a, b]}", "is no list of two numbers"),
        ("{uniform: [0, .inf]}", "is not below inf"),
        ("{int: [1, 2.5]}", "are not whole numbers"),
        ("{categorical: [1, 1]}", "1 is there twice"),
        ("{categorical: [a, b], linear: true}", "linear needs numbers"),
        ("{uniform: [0, 1], linear: 3}", "neither true nor false"),
        ("{uniform: [0, 1], when: 3}", "no mapping of another setting"),
        ("{uniform: [0, 1], when: {agent.gamma: 1}}", "'agent.gamma' is no categorical entry above it"),
        ("{uniform: [0, 1], when: {first: c}}", "'first' is never 'c'"),
    ],
)
def test_what_a_space_refuses(entry: str, message: str) -> None:
    data = yaml.safe_load(f"first: {{categorical: [a, b]}}\nagent.x: {entry}")
    with pytest.raises(ConfigError) as caught:
        parse_space(data, "space.yaml")
    assert caught.value.cause.startswith("'agent.x' in 'space.yaml': ")
    assert message in caught.value.cause
    assert "For example: agent.x: " in caught.value.fix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agent.lerning_rate: {log: [1e-5, 1e-2]}", "There is no option 'agent.lerning_rate'.*agent.learning_rate"),
        ("agent.gamma: {uniform: [0.9, 1.1]}", "agent.gamma=1.1 does not fit"),
        ("agent.n_steps: {categorical: [16, abc]}", "agent.n_steps='abc' does not fit"),
        ("seed: {int: [0, 5]}", "'seed' in .* cannot be varied"),
        ("total_timesteps: {int: [1, 5]}", "'total_timesteps' in .* cannot be varied"),
        ("{}", "varies nothing"),
    ],
)
def test_what_does_not_fit_the_agent_is_refused_with_the_option(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SweepRequest("ppo", "rltrain/CartPole-v1", parse_space(yaml.safe_load(text), "space.yaml")).check()


@pytest.mark.parametrize(
    "algo", [name for name, spec in agent_specs().items() if str(spec.entry_point).startswith("rltrain.")]
)
def test_a_space_comes_with_every_agent_and_fits_it(algo: str) -> None:
    if algo.startswith("sb3/"):
        pytest.importorskip("sb3_contrib")
    space = shipped_space(algo)
    continuous = algo.rpartition("/")[2] in ("sac", "td3", "ddpg", "tqc", "crossq")
    env = "rltrain/Pendulum-v1" if continuous else "rltrain/CartPole-v1"
    request = SweepRequest(algo, env, space, {"device": "cpu", "agent": {}})
    default = request.config()
    for drawn in space.corners():
        config = request.config(drawn)
        settings = space.settings(drawn)
        assert config.num_envs == settings.get("num_envs", default.num_envs)
    learning_rate = next(each for each in space.parameters if each.name == "agent.learning_rate")
    assert math.log10(learning_rate.values[1] / learning_rate.values[0]) >= 2


def test_an_agent_without_a_space_says_so(clean_registries: None) -> None:
    from rltrain.registry import agent_spec, register_agent

    ppo = agent_spec("ppo")
    register_agent("bare", ppo.entry_point, ppo.config)
    with pytest.raises(ConfigError, match=r"No search space comes with 'bare'\. Write one, .* --space"):
        shipped_space("bare")
