"""Memory: the layers by themselves, and agents that learn from sequences in which episodes end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from echo import make_agent
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agent import next_state
from rltrain.agents.parts.recurrent import GRU, LSTM, MEMORIES, LSTMState, Memory, MinGRU, linear_recurrence
from rltrain.agents.parts.returns import generalized_advantage, lambda_returns
from rltrain.agents.ppo.agent import PPO
from rltrain.agents.pqn.agent import PQN
from rltrain.env import TensorEnv
from rltrain.errors import ConfigError
from rltrain.tree import tree_map, tree_where
from rltrain.vec import TensorVecEnv

T, N, INPUTS, H = 9, 5, 3, 4
N_ENVS = 6


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Features (T, N, INPUTS), and starts of episodes (T, N), some of them one after another."""
    rng = torch.Generator().manual_seed(0)
    x, start = torch.randn(T, N, INPUTS, generator=rng, dtype=dtype), torch.rand(T, N, generator=rng) < 0.3
    assert (start[1:] & start[:-1]).any()
    assert start[0].any()
    return x, start


def some_state(memory: Memory) -> Any:
    """A state in the middle of an episode."""
    rng = torch.Generator().manual_seed(1)
    return tree_map(lambda x: torch.rand(x.shape, generator=rng, dtype=x.dtype), memory.initial_state(N))


def test_a_gru_is_that_of_torch() -> None:
    memory, cell = GRU(INPUTS, H), nn.GRUCell(INPUTS, H)
    pairs = (memory.input, cell.weight_ih, cell.bias_ih), (memory.recurrent, cell.weight_hh, cell.bias_hh)
    with torch.no_grad():
        for layer, weight, bias in pairs:
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    x, _ = inputs()
    state = expected = some_state(memory)
    for row in x:
        output, state = memory(row, state)
        expected = cell(row, expected)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)


def test_an_lstm_is_that_of_torch() -> None:
    memory, cell = LSTM(INPUTS, H), nn.LSTMCell(INPUTS, H)
    with torch.no_grad():
        memory.input.weight.copy_(cell.weight_ih)
        memory.input.bias.copy_(cell.bias_ih + cell.bias_hh)
        memory.recurrent.weight.copy_(cell.weight_hh)
    x, _ = inputs()
    state = expected = some_state(memory)
    for row in x:
        output, state = memory(row, state)
        expected = LSTMState(*cell(row, expected))
        torch.testing.assert_close((output, *state), (expected.hidden, *expected), rtol=0, atol=1e-6)


def test_a_min_gru_by_hand() -> None:
    """Equations of appendix B.3 of arXiv:2410.01201."""
    memory = MinGRU(INPUTS, H)
    (x, *_), state = inputs()[0], some_state(memory)
    gate, candidate = (x @ memory.input.weight.T).chunk(2, 1)
    z = 1 / (1 + (-gate).exp())
    positive = torch.where(candidate >= 0, candidate + 0.5, 1 / (1 + (-candidate).exp()))
    torch.testing.assert_close(memory(x, state)[0], (1 - z) * state + z * positive)


@pytest.mark.parametrize("kind", MEMORIES)
def test_a_sequence_is_step_by_step(kind: str) -> None:
    """In float64, with gradients; for minGRU these are its parallel and its sequential form."""
    memory = MEMORIES[kind](INPUTS, H).double()
    x, start = inputs(torch.float64)
    state, outputs = some_state(memory), []
    for row, reset in zip(x, start, strict=True):
        output, state = memory(row, tree_where(reset, memory.initial_state(N), state))
        outputs.append(output)
    weights = torch.randn(T, N, H, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    together = memory.sequence(x, some_state(memory), start)
    results = []
    for result in (torch.stack(outputs), together):
        grads = torch.autograd.grad((result * weights).sum(), list(memory.parameters()))
        results.append([result, *grads])
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)
    late = memory.sequence(x, some_state(memory), start.roll(1, 0))
    assert (late - together).abs().max() > 1e-2  # the control


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 200])
def test_a_linear_recurrence_of_any_length(length: int) -> None:
    rng = torch.Generator().manual_seed(length)
    factor, added = torch.rand(2, length, 3, dtype=torch.float64, generator=rng).unbind()
    factor[length // 2] = 0.0
    state, expected = torch.zeros(3, dtype=torch.float64), []
    for a, b in zip(factor, added, strict=True):
        state = a * state + b
        expected.append(state)
    torch.testing.assert_close(linear_recurrence(factor, added), torch.stack(expected), rtol=0, atol=1e-12)


@dataclass
class WalkState:
    place: Tensor  # (N,)
    left: Tensor  # (N,) int64, steps until the episode ends


class Walk(TensorEnv[WalkState]):
    """A random walk, seen in numbers or an image; one action is forbidden. Episodes end after 1 to 6 steps, or 4."""

    max_episode_steps = 4
    action_space = spaces.Discrete(3, start=2)
    parts: ClassVar[dict[str, spaces.Space]] = {
        "number": spaces.Box(-np.inf, np.inf, (2,)),
        "image": spaces.Box(0.0, 1.0, (5, 5, 1)),
        "action_mask": spaces.MultiBinary(3),
    }

    def __init__(self, shown: tuple[str, ...], **base: Any) -> None:
        super().__init__(**base)
        self.shown = shown
        self.observation_space = spaces.Dict({name: self.parts[name] for name in shown})
        if len(shown) == 1:
            self.observation_space = self.parts[shown[0]]

    def reset(self, n: int, rng: torch.Generator | None) -> WalkState:
        return WalkState(torch.randn(n, generator=rng), torch.randint(1, 7, (n,), generator=rng))

    def step(self, state: WalkState, action: Tensor, rng: torch.Generator | None) -> tuple[WalkState, Tensor, Tensor]:
        if "action_mask" in self.shown:
            assert self.mask(state).gather(1, action.unsqueeze(1) - 2).all()
        place = state.place + torch.randn(state.place.shape, generator=rng) + 0.1 * action
        return WalkState(place, state.left - 1), place, state.left <= 1

    def mask(self, state: WalkState) -> Tensor:
        forbidden = (10 * state.place).long() % 3
        return torch.arange(3) != forbidden.unsqueeze(1)

    def observe(self, state: WalkState) -> Any:
        image = state.place.sigmoid().view(-1, 1, 1, 1) * torch.linspace(0, 1, 25).view(5, 5, 1)
        numbers = torch.stack([state.place, state.place.sin()], 1)
        whole = {"number": numbers, "image": image, "action_mask": self.mask(state).to(torch.int8)}
        return {name: whole[name] for name in self.shown} if len(self.shown) > 1 else whole[self.shown[0]]


ROLLOUT = {"n_steps": 8, "batch_size": 24, "n_epochs": 2, "learning_rate": 0.01}  # 3 of 6 environments at once
OBSERVATIONS = {"numbers": ("number",), "an image": ("image",), "a dict": ("number", "image", "action_mask")}
CASES = [(kind, shown) for kind in MEMORIES for shown in OBSERVATIONS]
every_case = pytest.mark.parametrize(("kind", "shown"), CASES)


class Played:
    """A rollout in the middle of training, and what the networks said and were told while it was played."""

    def __init__(self, agent_class: Any, kind: str, shown: str, **options: Any) -> None:
        env = Walk(OBSERVATIONS[shown])
        self.vec = TensorVecEnv(env, N_ENVS)
        network = {"net_arch": [16], "memory": kind, "memory_size": 8}
        settings = {**ROLLOUT, "policy_kwargs": network, **options}
        self.agent: Any = make_agent(
            env.observation_space, env.action_space, N_ENVS, kind=agent_class, normalize_obs=True, **settings
        )
        self.said: list[Tensor] = []  # values of the observations, with their own memory
        self.final: list[Tensor] = []  # values of final_obs, with the memory of its episode
        self.forgetful: list[Tensor] = []  # the same with the memory of the next one
        obs, state = self.vec.reset(0), self.agent.actor.initial_state(N_ENVS)
        for rollout in range(2):
            if rollout:
                self.agent.learn()
            for _ in range(self.agent.horizon):
                if rollout:
                    self.said.append(self.value(obs, state))
                out = self.agent.act(obs, state)
                step = self.vec.step(out.action)
                self.agent.record(out, step)
                state = next_state(out, step, self.agent.actor.initial_state(N_ENVS))
                if rollout:
                    self.final.append(self.value(step.final_obs, out.state))
                    self.forgetful.append(self.value(step.final_obs, state))
                obs = step.obs
        self.rollout = self.agent.rollout
        assert self.rollout["truncated"].any()
        assert self.rollout["terminated"].any()

    @torch.no_grad()
    def value(self, obs: Any, state: Any) -> Tensor:
        """(N,) of PPO, (N, A) of PQN."""
        scaled = self.agent.obs_normalizer(obs)
        return self.agent.policy.value(scaled, state) if type(self.agent) is PPO else self.q(scaled, state)

    def q(self, scaled: Any, state: Any) -> Tensor:
        return self.agent.policy.step(scaled, state)[0]

    def minibatches(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """Those of an epoch of learning."""
        obs = tree_map(lambda x: x.flatten(0, 1), self.agent.obs_normalizer(self.rollout["obs"]))
        return list(self.agent._minibatches({"obs": obs, **batch}))


# What would go wrong unnoticed otherwise: sequences changed as a bug would change them.
BUGS: dict[str, Any] = {
    "never reset": lambda obs: obs._replace(start=torch.zeros_like(obs.start)),
    "reset a step late": lambda obs: obs._replace(start=obs.start.roll(1, 0)),
    "always reset": lambda obs: obs._replace(start=torch.ones_like(obs.start)),
    "without the stored state": lambda obs: obs._replace(state=tree_map(torch.zeros_like, obs.state)),
}
MASK_LOST = {
    "without the mask": lambda obs: obs._replace(
        obs={**obs.obs, "action_mask": torch.ones_like(obs.obs["action_mask"])}
    )
}


@every_case
def test_ppo_learns_from_the_probabilities_it_acted_with(kind: str, shown: str) -> None:
    """Also over the ends of episodes, from the middle of one at the start, and with the values it had then."""
    played = Played(PPO, kind, shown)
    agent, prepared = played.agent, played.agent.prepare()

    def errors(change: Any) -> Tensor:
        worst = []
        for batch in played.minibatches(prepared):
            (params, value), _ = agent.policy.evaluate(change(batch["obs"]))
            log_prob, _ = agent.distribution.log_prob_entropy(params, batch["raw"])
            worst.append(
                torch.stack([(log_prob - batch["log_prob"]).abs().max(), (value - batch["value"]).abs().max()])
            )
        assert len(worst) == 2
        return torch.stack(worst).amax(0)

    assert (errors(lambda obs: obs) < 1e-5).all()
    torch.testing.assert_close(prepared["value"], torch.stack(played.said).flatten(), rtol=0, atol=1e-5)
    for name, bug in (BUGS | (MASK_LOST if shown == "a dict" else {})).items():
        assert errors(bug)[0] > 1e-4, name
        assert (errors(bug)[1] > 1e-3) != (name in MASK_LOST), name


@every_case
def test_pqn_learns_from_the_values_it_acted_with(kind: str, shown: str) -> None:
    played = Played(PQN, kind, shown)
    said = torch.stack(played.said).flatten(0, 1)

    def error(change: Any) -> float:
        worst = []
        for batch in played.minibatches({"said": said}):
            values, _ = played.agent.policy.evaluate(change(batch["obs"]))
            worst.append(float((values - batch["said"]).abs().max()))
        assert len(worst) == 2
        return max(worst)

    assert error(lambda obs: obs) < 1e-5
    for name, bug in (BUGS | (MASK_LOST if shown == "a dict" else {})).items():
        assert error(bug) > 1e-3, name


@every_case
def test_ppo_values_the_end_of_an_episode_with_its_memory(kind: str, shown: str) -> None:
    played = Played(PPO, kind, shown)
    rollout, config = played.rollout, played.agent.config

    def advantage(final: list[Tensor]) -> Tensor:
        rest = rollout["terminated"], rollout["truncated"]
        values = torch.stack(played.said), torch.stack(final)
        coefficients = {"gamma": config.gamma, "gae_lambda": config.gae_lambda}
        return generalized_advantage(rollout["reward"], *values, *rest, **coefficients).flatten()

    found = played.agent.prepare()["advantage"]
    torch.testing.assert_close(found, advantage(played.final), rtol=0, atol=1e-5)
    assert (found - advantage(played.forgetful)).abs().max() > 1e-3


@every_case
def test_pqn_values_the_end_of_an_episode_with_its_memory(kind: str, shown: str) -> None:
    played = Played(PQN, kind, shown)
    rollout, config = played.rollout, played.agent.config

    def returns(final: list[Tensor]) -> Tensor:
        rest = rollout["terminated"], rollout["truncated"]
        best = torch.stack(final).amax(-1)
        coefficients = {"gamma": config.gamma, "q_lambda": config.q_lambda}
        return lambda_returns(rollout["reward"], best, *rest, **coefficients).flatten()

    found = played.agent.targets()
    torch.testing.assert_close(found, returns(played.final), rtol=0, atol=1e-5)
    assert (found - returns(played.forgetful)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [PPO, PQN])
def test_an_update_that_moves_nothing_finds_nothing_moved(kind: Any) -> None:
    """At the end of ``lin_X`` the step size is 0: all that ``learn`` then says is about the policy that acted."""
    agent = Played(kind, "gru", "a dict", learning_rate="lin_0.01").agent
    agent.progress_remaining = 0.0
    before = agent.optimizer.flat.detach().clone()
    metrics = agent.learn()
    assert torch.equal(agent.optimizer.flat, before)
    if kind is PPO:
        assert float(metrics["train/approx_kl"]) == pytest.approx(0.0, abs=1e-7)
        assert float(metrics["train/clip_fraction"]) == 0.0


def test_a_minibatch_has_whole_sequences_of_some_environments() -> None:
    played = Played(PPO, "gru", "numbers", batch_size=9)  # more than one sequence of 8, so two
    where = torch.arange(8 * N_ENVS).view(8, N_ENVS)
    parts = [batch["where"].view(8, -1) for batch in played.minibatches({"where": where.flatten()})]
    assert [part.shape[1] for part in parts] == [2, 2, 2]
    columns = torch.cat(parts, 1)
    assert torch.equal(columns[:, columns[0].argsort()], where)
    assert columns[0].tolist() != where[0].tolist()  # in an order drawn at random
    with pytest.warns(UserWarning, match="whole sequences, 16 transitions"):
        played.agent.check()
    with pytest.warns(UserWarning, match="last minibatch of an epoch has 16 transitions"):
        make_agent(num_envs=8, **{**ROLLOUT, "policy_kwargs": {"memory": "gru"}}).check()


def test_acting_alone_forgets_nothing_else() -> None:
    """Without a state, all episodes are at their start."""
    agent = make_agent(policy_kwargs={"memory": "lstm", "memory_size": 4})
    obs = torch.randn(8, 4)
    first, state = agent.actor(obs)
    again, _ = agent.actor(obs, state, torch.ones(8, dtype=torch.bool))
    assert torch.equal(first, again)
    assert state.hidden.shape == state.cell.shape == (8, 4)


def test_memory_is_counted() -> None:
    sizes = {
        kind: make_agent(policy_kwargs={"memory": kind, "memory_size": 100} if kind else {}).memory()
        for kind in (None, "gru", "lstm")
    }
    state = 8 * 8 * 100 * 4  # steps, environments, numbers, bytes
    assert sizes["gru"] - sizes[None] == state
    assert sizes["lstm"] - sizes[None] == 2 * state


class Own(nn.Module):
    """A network of someone's own."""


def test_a_network_of_your_own_has_the_memory_that_you_give_it() -> None:
    with pytest.raises(ConfigError, match="cannot be given memory: gru") as error:
        make_agent(policy_kwargs={"memory": "gru", "network_class": Own})
    assert "features_extractor_class" in error.value.fix


@pytest.mark.parametrize("kind", [PPO, PQN])
def test_bfloat16_leaves_the_state_in_float32(kind: Any) -> None:
    played = Played(kind, "lstm", "numbers")
    played.agent.use_bfloat16()
    played.agent.learn()
    obs, state = played.vec.reset(0), played.agent.actor.initial_state(N_ENVS)
    for _ in range(2):
        for _ in range(played.agent.horizon):
            out = played.agent.act(obs, state)
            step = played.vec.step(out.action)
            played.agent.record(out, step)
            obs, state = step.obs, next_state(out, step, played.agent.actor.initial_state(N_ENVS))
        metrics = played.agent.learn()
    assert {x.dtype for x in out.state} == {x.dtype for x in played.agent.actor(obs, state).state} == {torch.float32}
    assert torch.isfinite(metrics["train/loss"])
