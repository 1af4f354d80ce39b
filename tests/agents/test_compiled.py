"""Compiled and graphed training equals eager training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from echo import collect, flat, make_agent
from player_piano import PlayerPiano
from torch import Tensor

from rltrain import compile as compiled
from rltrain.agent import Agent
from rltrain.agents.dqn.agent import DQN
from rltrain.agents.ppo.agent import PPO
from rltrain.agents.pqn.agent import PQN
from rltrain.agents.sac.agent import SAC
from rltrain.compile import CompileClock, Recorded, check_compiler
from rltrain.errors import ConfigError
from rltrain.make import make_vec

N = 8
CPU = torch.device("cpu")
SCHEDULES = {"learning_rate": "lin_0.003", "clip_range": "lin_0.2", "clip_range_vf": "lin_0.3"}
EXTRAS = {**SCHEDULES, "target_kl": 0.02, "ent_coef": 0.01, "normalize_obs": True, "normalize_reward": True}
AUTOGRAD = {"policy_kwargs": {"net_arch": [16], "activation_fn": "gelu"}}
REPLAY = {"train_freq": 4, "gradient_steps": 2, "learning_starts": 0, "learning_rate": "lin_0.01"}
RAINBOW = {"double_q": True, "dueling": True, "prioritized_replay": True, "n_steps": 3}
PARALLEL = {"distributional": True, "policy_delay": 2, "normalize_obs": True, "normalize_reward": True, "n_steps": 3}
PARALLEL["policy_kwargs"] = {"net_arch": [16], "layer_norm": True, "weight_norm": True}
CASES: dict[str, tuple[type[Agent], dict[str, Any]]] = {
    "ppo": (PPO, EXTRAS),
    "ppo by autograd": (PPO, AUTOGRAD),
    "dqn": (DQN, REPLAY),
    "pqn": (PQN, {"learning_rate": "lin_0.003"}),
    "sac": (SAC, REPLAY),
}
CHEAP: dict[str, tuple[type[Agent], dict[str, Any]]] = {
    **CASES,
    "short minibatch": (PPO, {"batch_size": 24}),
    "rainbow": (DQN, {**REPLAY, **RAINBOW}),
    "dqn by autograd": (DQN, {**REPLAY, **AUTOGRAD}),
    "pqn by autograd": (PQN, AUTOGRAD),
    "pendulum": (PPO, EXTRAS),
    "sac, noise of the state": (SAC, {**REPLAY, "use_sde": True, "ent_coef": 0.1}),
    "sac, parallel": (SAC, {**REPLAY, **PARALLEL}),
    "ppo with GRU": (
        PPO,
        {**EXTRAS, "n_steps": 4, "policy_kwargs": {"net_arch": [16], "memory": "gru", "memory_size": 8}},
    ),
    "ppo with minGRU": (PPO, {**EXTRAS, "policy_kwargs": {"net_arch": [16], "memory": "mingru", "memory_size": 8}}),
    "pqn with LSTM": (PQN, {"n_steps": 4, "policy_kwargs": {"net_arch": [16], "memory": "lstm", "memory_size": 8}}),
}


def made(case: str) -> tuple[Any, Any]:
    kind, options = CHEAP[case]
    vec: Any = make_vec("rltrain/Pendulum-v1" if case == "pendulum" or kind is SAC else "rltrain/CartPole-v1", N)
    return make_agent(vec.single_observation_space, vec.single_action_space, N, kind=kind, **options), vec


def iterations(agent: Any, vec: Any, number: int = 3) -> Iterator[dict[str, Any]]:
    """Learning; the numbers that change with the progress of training do so between iterations."""
    obs = vec.reset(0)
    for i in range(number):
        agent.progress_remaining = 1.0 - i / number
        obs = collect(agent, vec, obs)
        yield agent.learn()


def assert_alike(case: str, agent: Any, metrics: dict[str, Any], number: int = 3) -> None:
    """What eager training comes to from the same seeds, to the rounding."""
    eager, vec = made(case)
    *_, expected = iterations(eager, vec, number)
    assert not torch.equal(flat(eager), flat(made(case)[0]))
    torch.testing.assert_close(flat(agent), flat(eager), rtol=1e-3, atol=1e-5)
    assert metrics.keys() == expected.keys()
    for tag, value in expected.items():
        assert float(metrics[tag]) == pytest.approx(float(value), rel=1e-2, abs=1e-4, nan_ok=True), tag


@pytest.mark.parametrize("case", CASES)
def test_compiled_learning_is_eager_learning(case: str) -> None:
    """And nothing is compiled anew once every shape was seen."""
    try:
        check_compiler(CPU)
    except ConfigError as error:
        pytest.skip(error.cause)
    clock = CompileClock()
    agent, vec = made(case)
    vec.compile()
    agent.compile()
    learned = [(metrics, programs(agent, vec)) for metrics in iterations(agent, vec)]
    metrics, number = learned[-1]
    assert number == learned[0][1]
    assert clock.seconds > 0
    assert_alike(case, agent, metrics)


@pytest.mark.parametrize("case", CHEAP)
def test_recorded_learning_is_eager_learning(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded on a CPU, run operation by operation as it was recorded."""
    monkeypatch.setattr("rltrain.traced.lowered", lambda graph, inputs: lambda given: graph(*given))
    agent, vec = made(case)
    vec.compile()
    agent.compile()
    learned = [(metrics, programs(agent, vec)) for metrics in iterations(agent, vec)]
    metrics, number = learned[-1]
    assert len(agent.graph_methods) < number == learned[0][1]
    assert_alike(case, agent, metrics)


def programs(agent: Agent, vec: Any) -> int:
    """How many functions were recorded, each shape counted."""
    made_faster = [vec._compiled, *(getattr(agent, name) for name in agent.graph_methods)]
    assert all(each.programs for each in made_faster)
    return sum(len(each.programs) for each in made_faster)


@pytest.mark.parametrize("case", ["ppo with GRU", "ppo with minGRU", "pqn with LSTM"])
def test_memory_is_compiled_in_one_piece(case: str) -> None:
    """Traced with its backward pass, but without the minutes in which Inductor writes code for an unrolled loop."""
    from torch._dynamo.utils import counters

    counters.clear()
    agent, vec = made(case)
    agent.compile(backend="aot_eager")
    learned = [(metrics, counters["stats"]["unique_graphs"]) for metrics in iterations(agent, vec)]
    torch.compiler.reset()
    metrics, graphs = learned[-1]
    assert len(agent.compiled_methods) == graphs == learned[0][1]
    assert not counters["graph_break"]
    assert_alike(case, agent, metrics)


@pytest.fixture
def piano(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA graphs on the CPU, of what is not compiled."""
    monkeypatch.setattr(Recorded, "_run_aside", lambda self, args: self.function(*args))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", PlayerPiano)
    monkeypatch.setattr(Recorded, "stream", None)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: graph)
    for place in ("rltrain.agent", "rltrain.vec", "rltrain.agents.parts.off_policy"):
        monkeypatch.setattr(f"{place}.can_lower", lambda _: False)
    for place in ("rltrain.agent", "rltrain.vec"):
        monkeypatch.setattr(f"{place}.fused", lambda function, *_, **__: function)
        monkeypatch.setattr(f"{place}.recorded", lambda function, _, fresh=False: Recorded(function, fresh=fresh))


@pytest.mark.usefixtures("piano")
@pytest.mark.parametrize("case", CHEAP)
def test_what_is_recorded_can_be_replayed(case: str) -> None:
    """Replayed, every operation of a recording writes to where it wrote, and Python does not run."""
    agent, vec = made(case)
    vec.compile()
    agent.compile()
    number = 3 + compiled.WARM_UPS
    *_, metrics = iterations(agent, vec, number)
    for name in agent.graph_methods:
        assert any(recording.graph for recording in getattr(agent, name).recordings.values()), name
    assert all(recording.graph for recording in vec._compiled.recordings.values())
    assert_alike(case, agent, metrics, number)


@pytest.mark.usefixtures("piano")
def test_a_recording_keeps_what_python_gave_it() -> None:
    """The control: a number is a constant of a recording, a tensor is not, and results are overwritten."""
    factor = 1.0
    recorded = Recorded(lambda x: x * factor)
    for _ in range(compiled.WARM_UPS + 1):
        first = recorded(torch.ones(2))
    factor = 2.0
    assert recorded(torch.full((2,), 3.0)).tolist() == first.tolist() == [3.0, 3.0]
    assert recorded(torch.ones(3)).tolist() == [2.0, 2.0, 2.0]  # another shape
    assert Recorded(lambda x: x, fresh=True)(torch.ones(1)).tolist() == [1.0]


def test_noisy_layers_are_not_compiled() -> None:
    with pytest.raises(ConfigError, match="Noisy"):
        make_agent(kind=DQN, noisy=True).compile()


@pytest.mark.parametrize("kind", [PPO, DQN, PQN])
def test_networks_in_bfloat16_learn_in_float32(kind: type[Agent]) -> None:
    vec: Any = make_vec("rltrain/CartPole-v1", N)
    spaces = vec.single_observation_space, vec.single_action_space
    options = REPLAY if kind is DQN else {}
    agent, exact = (make_agent(*spaces, N, kind=kind, **options) for _ in range(2))
    agent.use_bfloat16()
    obs = vec.reset(0)
    values, others = (each.policy(obs)[0] for each in (agent, exact))
    assert values.dtype == torch.float32
    assert not torch.equal(values, others)
    torch.testing.assert_close(values, others, rtol=0.05, atol=0.01)
    *_, metrics = iterations(agent, vec)
    assert agent.optimizer.flat.dtype == torch.float32
    assert not torch.equal(agent.optimizer.flat, exact.optimizer.flat)
    for value in metrics.values():
        assert not isinstance(value, Tensor) or value.dtype == torch.float32


def test_sac_in_bfloat16_learns_in_float32() -> None:
    vec: Any = make_vec("rltrain/Pendulum-v1", N)
    spaces = vec.single_observation_space, vec.single_action_space
    agent, exact = (make_agent(*spaces, N, kind=SAC, **REPLAY) for _ in range(2))
    agent.use_bfloat16()
    obs = vec.reset(0)
    action = torch.linspace(-1, 1, N).unsqueeze(1)
    for values, others in (
        (agent.actor.gaussian(obs)[0], exact.actor.gaussian(obs)[0]),
        (agent.critic(obs, action), exact.critic(obs, action)),
        (agent.critic_target(obs, action), exact.critic_target(obs, action)),
    ):
        assert values.dtype == torch.float32
        assert not torch.equal(values, others)
        torch.testing.assert_close(values, others, rtol=0.05, atol=0.02)
    *_, metrics = iterations(agent, vec)
    assert not torch.equal(flat(agent), flat(exact))
    for value in (flat(agent), *metrics.values()):
        assert not isinstance(value, Tensor) or value.dtype == torch.float32
