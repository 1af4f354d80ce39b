"""Two proofs that a training iteration never waits for the device, and its number of operations."""

from __future__ import annotations

import gc
import re
from typing import Any

import pytest
import torch
from echo import EVERY_OPTION, flat, make_agent
from float64 import Float64
from torch import Tensor, nn

from rltrain.agent import Agent, next_state
from rltrain.agents.dqn.agent import DQN
from rltrain.agents.ppo.agent import PPO
from rltrain.agents.pqn.agent import PQN
from rltrain.agents.sac.agent import SAC
from rltrain.check.op_counter import OpCounter
from rltrain.evaluation.episodes import run_episodes
from rltrain.make import make_vec
from rltrain.training.metrics import EpisodeStats, Fetch, MetricMeans, fetch
from rltrain.tree import leaves
from rltrain.vec import TensorVecEnv

N = 16
CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"
both = pytest.mark.parametrize("env", [CARTPOLE, PENDULUM])
PLAIN: dict[str, Any] = {}
NORMALIZED = {"normalize_obs": True, "normalize_reward": True}
MEMORY = {"policy_kwargs": {"net_arch": [8], "memory": "gru", "memory_size": 8}}
LSTM = {"policy_kwargs": {"net_arch": [8], "memory": "lstm", "memory_size": 8}, "normalize_obs": True}
MINGRU = {"policy_kwargs": {"net_arch": [8], "memory": "mingru", "memory_size": 8}, **NORMALIZED}
EVERYTHING = {**NORMALIZED, "target_kl": 0.01, "clip_range_vf": 0.2, "ent_coef": 0.01}
every_option = pytest.mark.parametrize(
    "options",
    [PLAIN, NORMALIZED, EVERYTHING, MEMORY, LSTM, MINGRU],
    ids=["plain", "normalized", "all", "gru", "lstm", "mingru"],
)


ROLLOUTS = {"n_steps": 4, "n_epochs": 2}
REPLAY = {"train_freq": 4, "gradient_steps": 2, "learning_starts": 0, "target_update_interval": 96, "tau": 0.5}
SETTINGS: dict[type[Agent], dict[str, Any]] = {
    PPO: ROLLOUTS,
    PQN: ROLLOUTS,
    DQN: {**REPLAY, "buffer_size": 6 * N},
    SAC: {**REPLAY, "buffer_size": 6 * N, "target_update_interval": 1},
}
SDE = {"use_sde": True, "ent_coef": 0.1}
PARALLEL = {**NORMALIZED, "distributional": True, "policy_delay": 2, "n_steps": 3}
PARALLEL["policy_kwargs"] = {"net_arch": [8], "layer_norm": True, "weight_norm": True}
every_sac = pytest.mark.parametrize("options", [PLAIN, SDE, PARALLEL], ids=["plain", "sde", "parallel"])
every_q_learner = pytest.mark.parametrize(
    ("kind", "options"),
    [(DQN, PLAIN), (DQN, EVERY_OPTION), (PQN, PLAIN), (PQN, {"normalize_obs": True}), (PQN, LSTM)],
    ids=["dqn", "rainbow", "pqn", "pqn normalized", "pqn lstm"],
)


def env_for(kind: type[Agent]) -> str:
    """One whose actions the agent can take."""
    return PENDULUM if kind is SAC else CARTPOLE


class Run:
    """A trainer's inner loop without the trainer."""

    def __init__(self, env: str, device: str = "cpu", kind: type[Agent] = PPO, **options: Any) -> None:
        settings = {**SETTINGS[kind], "batch_size": 24, "policy_kwargs": {"net_arch": [8]}, **options}
        self.vec: TensorVecEnv = make_vec(env, N, device=device, max_episode_steps=3)
        spaces = self.vec.single_observation_space, self.vec.single_action_space
        self.agent: Any = make_agent(*spaces, N, kind=kind, device=device, **settings)
        self.stats = EpisodeStats(100, self.agent.horizon, N, self.vec.device)
        self.metrics = MetricMeans()
        self.obs, self.state = self.vec.reset(0), self.agent.actor.initial_state(N)

    def collect(self) -> None:
        initial = self.agent.actor.initial_state(N)
        for _ in range(self.agent.horizon):
            out = self.agent.act(self.obs, self.state)
            step = self.vec.step(out.action)
            self.agent.record(out, step)
            self.stats.note(step)
            self.obs, self.state = step.obs, next_state(out, step, initial)
        self.stats.merge()

    def iterate(self) -> None:
        self.collect()
        self.metrics.add(self.agent.learn())

    def log(self) -> dict[str, float]:
        return fetch({**self.stats.means(), **self.metrics.take()})


@both
@every_option
def test_an_iteration_runs_on_meta(env: str, options: dict[str, Any]) -> None:
    """Tensors without data: whatever asks for a number, or makes a tensor on another device, raises."""
    run = Run(env, device="meta", **options)
    run.iterate()
    run.iterate()
    metrics = {**run.stats.means(), **run.metrics.take()}
    means = {tag: value for tag, value in metrics.items() if isinstance(value, Tensor)}
    for tensor in (*means.values(), *run.agent.state_dict().values(), *leaves(run.obs)):
        assert tensor.device.type == "meta"
    assert all(value.shape == () for value in means.values())


@every_q_learner
def test_an_iteration_of_q_learning_runs_on_meta(kind: type[Agent], options: dict[str, Any]) -> None:
    run = Run(CARTPOLE, device="meta", kind=kind, **options)
    for _ in range(3):  # past what the replay holds
        run.iterate()
    means = {tag: value for tag, value in run.metrics.take().items() if isinstance(value, Tensor)}
    assert {"train/loss", "train/grad_norm"} <= means.keys()
    for tensor in (*means.values(), *run.agent.state_dict().values(), *leaves(run.obs)):
        assert tensor.device.type == "meta"


@every_q_learner
def test_an_iteration_of_q_learning_never_waits(kind: type[Agent], options: dict[str, Any]) -> None:
    run = Run(CARTPOLE, kind=kind, **options)
    before = run.agent.optimizer.flat.detach().clone()
    with OpCounter() as counter:
        for _ in range(3):
            run.iterate()
    assert counter.waits == []
    assert counter.total > 500
    assert not torch.equal(run.agent.optimizer.flat, before)
    assert run.log()["rollout/episodes"] == 4 * N  # episodes of three steps, twelve steps played


@every_sac
def test_an_iteration_of_sac_runs_on_meta(options: dict[str, Any]) -> None:
    run = Run(PENDULUM, device="meta", kind=SAC, **options)
    for _ in range(3):  # past what the replay holds
        run.iterate()
    means = {tag: value for tag, value in run.metrics.take().items() if isinstance(value, Tensor)}
    assert {"train/critic_loss", "train/actor_loss", "train/ent_coef"} <= means.keys()
    for tensor in (*means.values(), *run.agent.state_dict().values(), *leaves(run.obs)):
        assert tensor.device.type == "meta"


@every_sac
def test_an_iteration_of_sac_never_waits(options: dict[str, Any]) -> None:
    run = Run(PENDULUM, kind=SAC, **options)
    before = flat(run.agent)
    with OpCounter() as counter:
        for _ in range(3):
            run.iterate()
    assert counter.waits == []
    assert counter.total > 500
    assert not torch.equal(flat(run.agent), before)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PPO, EVERYTHING),
        (PPO, MINGRU),
        (DQN, EVERY_OPTION),
        (PQN, {"normalize_obs": True}),
        (PQN, LSTM),
        (SAC, PARALLEL),
    ],
    ids=["ppo", "ppo mingru", "rainbow", "pqn", "pqn lstm", "sac"],
)
def test_an_iteration_needs_no_float64(
    kind: type[Agent], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every device has it: statistics are in float32 there."""
    monkeypatch.setattr("rltrain.devices.WITHOUT_FLOAT64", {"meta"})
    with Float64("meta") as mode:
        run = Run(env_for(kind), device="meta", kind=kind, **options)
        for _ in range(3):
            run.iterate()
        Fetch({**run.stats.means(), **run.metrics.take()})
    assert mode.seen == []


def test_meta_sees_what_asks_for_a_number() -> None:
    """The control of the proof above."""
    run = Run(CARTPOLE, device="meta")
    for asks in (float, bool, Tensor.item, Tensor.tolist, lambda x: x + torch.ones(1)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            asks(run.stats.means()["rollout/ep_rew_mean"])


@both
@every_option
def test_an_iteration_never_waits(env: str, options: dict[str, Any]) -> None:
    run = Run(env, **options)
    with OpCounter() as counter:
        run.iterate()
        run.iterate()
    assert counter.waits == []
    assert counter.total > 500  # it was seen at all, the backward pass included
    assert any("backward" in name for name in counter.counts)
    assert run.log()["rollout/episodes"] == 2 * N  # episodes of three steps, eight steps played


def held() -> tuple[int, int]:
    """The blocks of memory that tensors hold, and their bytes."""
    gc.collect()
    # Types are compared, not asked: subclasses such as those that torch.compile leaves behind hold no memory.
    tensors = [x for x in gc.get_objects() if type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu"]
    tensors = [x for x in tensors if x.layout == torch.strided]  # others have no storage to ask for
    sizes = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return len(sizes), sum(sizes.values())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PPO, EVERYTHING),
        (PPO, MEMORY),
        (DQN, PLAIN),
        (DQN, EVERY_OPTION),
        (PQN, {"normalize_obs": True}),
        (SAC, PARALLEL),
    ],
    ids=["ppo", "ppo gru", "dqn", "rainbow", "pqn", "sac"],
)
def test_no_memory_is_taken_that_grows_with_time(kind: type[Agent], options: dict[str, Any]) -> None:
    run = Run(env_for(kind), kind=kind, **options)
    kept: list[Any] = []

    def after(iterations: int, keep: bool = False) -> tuple[int, int]:
        for _ in range(iterations):
            run.iterate()
            run.log()
            if keep:
                kept.append(run.vec.state)
        return held()

    early = after(4)  # the replay is full
    assert after(8) == early
    assert after(2, keep=True) > early  # the control


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("kind", [PPO, DQN, PQN, SAC])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_gpu_is_never_waited_for(kind: type[Agent], compiled: bool) -> None:
    run = Run(env_for(kind), device="cuda", kind=kind)
    if compiled:
        run.vec.compile()
        run.agent.compile()
    for _ in range(8):  # compiled and recorded by then
        run.iterate()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.iterate()
        fetching = Fetch(run.stats.means())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert fetching.values()["rollout/episodes"] > 0


def test_an_early_stop_never_waits() -> None:
    run = Run(CARTPOLE, learning_rate=0.5, target_kl=1e-4, n_epochs=5)
    before = run.agent.optimizer.flat.detach().clone()
    with OpCounter() as counter:
        run.iterate()
    assert counter.waits == []
    assert not torch.equal(run.agent.optimizer.flat, before)
    assert int(run.agent.optimizer.state_dict()["step"]) < 5 * 3  # it did stop


@pytest.mark.parametrize(
    "hidden",
    [
        lambda x: x[x > 0],
        lambda x: x.softmax(-1).multinomial(1),
        lambda x: torch.distributions.Categorical(logits=x, validate_args=False).sample(),
        lambda x: torch.normal(x, x.exp()),
        lambda x: bool((x > 0).any()),
        lambda x: x.masked_fill(x > 0, 0.0).max().item(),
        lambda x: x.nonzero(),
    ],
    ids=["mask", "multinomial", "categorical", "normal", "bool", "item", "nonzero"],
)
def test_the_mode_sees_a_hidden_wait(hidden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same iteration with one such call in the reward normaliser."""
    run = Run(CARTPOLE, **NORMALIZED)
    original = run.agent.reward_normalizer.forward

    def waits(reward: Tensor, done: Tensor) -> Tensor:
        hidden(reward)
        return original(reward, done)

    monkeypatch.setattr(run.agent.reward_normalizer, "forward", waits)
    with OpCounter() as counter:
        run.iterate()
    assert counter.waits


def count(function: Any, *args: Any) -> int:
    with OpCounter() as counter:
        function(*args)
    return counter.total


def cost(env: str, options: dict[str, Any]) -> dict[str, int]:
    """Dispatched operations, views included, of each part of an iteration."""

    def learn(minibatches: int) -> int:
        run = Run(env, **{**options, "n_epochs": 1, "batch_size": 4 * N // minibatches})
        run.collect()
        return count(run.agent.learn)

    run = Run(env, **options)
    run.iterate()
    out = run.agent.act(run.obs)  # the first of a rollout, which also draws its noise
    step = run.vec.step(out.action)
    run.agent.record(out, step)
    counts = {
        "act": count(run.agent.act, run.obs),
        "record": count(run.agent.record, out, step),
        "note": count(run.stats.note, step),
        "merge": count(run.stats.merge),
        "merges of several rollouts": count(run.stats.state_dict),
        "minibatch": (learn(4) - learn(2)) // 2,
    }
    counts["learn, without minibatches"] = learn(1) - counts["minibatch"]
    return counts


# What each part costs at present. On a GPU operations are the cost: raising one is a decision, and lowering one
# is a change to make here too. What a step of the environment may cost stands in tests/envs/test_vec.py.
STATS = {"record": 4, "note": 3, "merge": 0, "merges of several rollouts": 19}
COSTS = {
    (CARTPOLE, "plain"): {"act": 12, "minibatch": 69, "learn, without minibatches": 98, **STATS},
    (CARTPOLE, "all"): {"act": 19, "minibatch": 88, "learn, without minibatches": 192, **STATS},
    (PENDULUM, "plain"): {"act": 14, "minibatch": 76, "learn, without minibatches": 103, **STATS},
    (PENDULUM, "all"): {"act": 21, "minibatch": 90, "learn, without minibatches": 197, **STATS},
}


@pytest.mark.parametrize(("env", "name"), COSTS, ids=str)
def test_nothing_costs_more_than_it_did(env: str, name: str) -> None:
    counts, table = cost(env, {"plain": PLAIN, "all": EVERYTHING}[name]), COSTS[env, name]
    assert counts.keys() == table.keys()
    dearer = {part: f"{counts[part]} > {table[part]}" for part in table if counts[part] > table[part]}
    assert not dearer


def cost_of_q_learning(kind: type[Agent], options: dict[str, Any]) -> dict[str, int]:
    """Dispatched operations of each part of an iteration; of a minibatch what a further one adds."""

    def learn(more: bool) -> int:
        rollouts = {"n_epochs": 1, "batch_size": N * (2 - more)}
        sizes = {"gradient_steps": 4 if more else 2} if kind in (DQN, SAC) else rollouts
        run = Run(env_for(kind), kind=kind, **{**options, **sizes})
        run.collect()
        return count(run.agent.learn)

    run = Run(env_for(kind), kind=kind, **options)
    run.iterate()
    out = run.agent.act(run.obs)  # the first of a rollout, which also draws its chance
    step = run.vec.step(out.action)
    run.agent.record(out, step)
    counts = {"act": count(run.agent.act, run.obs), "record": count(run.agent.record, out, step)}
    counts["minibatch"] = (learn(True) - learn(False)) // 2
    counts["learn, without minibatches"] = learn(False) - 2 * counts["minibatch"]
    return counts


Q_COSTS: dict[tuple[type[Agent], str], dict[str, int]] = {
    (DQN, "plain"): {"act": 12, "record": 15, "minibatch": 26, "learn, without minibatches": 59},
    (DQN, "all"): {"act": 65, "record": 22, "minibatch": 390, "learn, without minibatches": 6},
    (PQN, "plain"): {"act": 14, "record": 4, "minibatch": 31, "learn, without minibatches": 46},
    (SAC, "plain"): {"act": 17, "record": 15, "minibatch": 226, "learn, without minibatches": 52},
    (SAC, "parallel"): {"act": 26, "record": 18, "minibatch": 230, "learn, without minibatches": 162},
}


@pytest.mark.parametrize(("kind", "name"), Q_COSTS, ids=lambda value: getattr(value, "__name__", value))
def test_no_part_of_q_learning_costs_more_than_it_did(kind: type[Agent], name: str) -> None:
    options = {"plain": PLAIN, "all": EVERY_OPTION, "parallel": PARALLEL}[name]
    counts, table = cost_of_q_learning(kind, options), Q_COSTS[kind, name]
    assert counts.keys() == table.keys()
    dearer = {part: f"{counts[part]} > {table[part]}" for part in table if counts[part] > table[part]}
    assert not dearer


def test_an_evaluation_asks_rarely() -> None:
    """Between two questions whether all episodes are over lie 16 steps."""
    vec = make_vec(CARTPOLE, N, max_episode_steps=64)
    agent = make_agent(vec.single_observation_space, vec.single_action_space, num_envs=N)
    with OpCounter() as counter:
        result = run_episodes(agent.actor, vec, N)
    steps = -(-int(result.lengths.max()) // 16) * 16
    waits = [name for name in counter.waits if not re.match("index", name)]  # the last one picks the results
    assert len(waits) == steps // 16
