"""Whole updates against plain loops, in every way that they are computed: alone, resumed, compiled, stacked, by ranks.

Comparing these ways with each other could not show that all of them mean the wrong thing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import SIZE, ByHand, Meeting, PPOByHand, PQNByHand, Weather, collect
from echo import make_agent, resume_from_disk
from gymnasium import spaces

from rltrain.agents.ppo.agent import PPO
from rltrain.agents.pqn.agent import PQN
from rltrain.normalize import across_ranks
from rltrain.registry import agent_spec
from rltrain.training.batch import stack

N, UPDATES = 6, 3
OBS = spaces.Box(-10.0, 10.0, (SIZE,))
SMALL = {"n_steps": 9, "batch_size": 20, "n_epochs": 3, "learning_rate": "lin_0.01", "gamma": 0.9}
NARROW = spaces.Box(-0.5, 0.5, (2,))  # most actions are clipped
BOTH = {"normalize_obs": True, "normalize_reward": True}
CASES: dict[str, tuple[Any, spaces.Space, dict[str, Any]]] = {
    "ppo": (PPO, spaces.Discrete(3, start=2), {"gae_lambda": 0.8, "clip_range": "lin_0.1", "ent_coef": 0.05}),
    "ppo, box": (PPO, NARROW, {"gae_lambda": 0.9, "clip_range_vf": 0.1, "vf_coef": 0.8, "ent_coef": 0.02}),
    "ppo, normalised": (PPO, spaces.Discrete(3), {**BOTH, "gae_lambda": 0.7, "max_grad_norm": 0.1}),
    "pqn": (PQN, spaces.Discrete(3, start=2), {"q_lambda": 0.6, "max_grad_norm": 0.5}),
    "pqn, normalised": (PQN, spaces.Discrete(3), {"normalize_obs": True, "q_lambda": 0.8}),
}
every_case = pytest.mark.parametrize("case", CASES)


def make(case: str, seed: int = 0, num_envs: int = N, **changes: Any) -> Any:
    kind, action_space, settings = CASES[case]
    return make_agent(OBS, action_space, num_envs, seed, kind, **{**SMALL, **settings, **changes})


def by_hand(agent: Any) -> ByHand:
    return (PPOByHand if isinstance(agent, PPO) else PQNByHand)(agent)


def order_of(agent: Any) -> torch.Generator:
    """Another generator that draws what the agent's will draw next."""
    copied = torch.Generator()
    copied.set_state(agent.rng.get_state())
    return copied


def assert_alike(agent: Any, book: ByHand) -> None:
    """The same weights and statistics."""
    for (name, ours), theirs in zip(agent.policy.named_parameters(), book.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")
    if book.scaler is not None:
        moments = agent.obs_normalizer.moments["observation"]
        torch.testing.assert_close(moments.mean, torch.from_numpy(book.scaler.moments.mean))
        torch.testing.assert_close(moments.var, torch.from_numpy(book.scaler.moments.var))


def updates(agent: Any, book: ByHand, weather: Weather, number: int = UPDATES, first: int = 0) -> None:
    """Lets both learn from the same rollouts."""
    for update in range(first, first + number):
        agent.progress_remaining = 1.0 - update / UPDATES
        parts = collect(agent, [weather])
        order = order_of(agent)
        agent.learn()
        book.learn(parts, [order], agent.progress_remaining)


@every_case
def test_alone(case: str) -> None:
    agent = make(case)
    before = agent.optimizer.flat.detach().clone()
    book, weather = by_hand(agent), Weather(N, 0)
    for update in range(UPDATES):
        updates(agent, book, weather, 1, update)
        assert_alike(agent, book)
    assert (agent.optimizer.flat - before).abs().max() > 0.01


@every_case
def test_acts_by_what_it_has_learned(case: str) -> None:
    """Statistics included: as the network by hand says, for observations as they come."""
    agent = make(case, seed=1)
    book, weather = by_hand(agent), Weather(N, 0)
    updates(agent, book, weather, 2)
    obs = Weather(200, 5).obs
    with torch.no_grad():
        said = book.policy(book.scaled(obs))
    said = said[0] if isinstance(agent, PPO) else said
    action = agent.predict(obs).action
    if isinstance(agent.action_space, spaces.Box):
        torch.testing.assert_close(action, said.clamp(-0.5, 0.5), rtol=1e-3, atol=1e-4)
    else:
        assert torch.equal(action, said.argmax(1) + int(agent.action_space.start))
        assert len(action.unique()) > 1
    if isinstance(agent, PQN):  # and so it does where it explores, but for the random actions
        acting = make(case, num_envs=len(obs), exploration_final_eps=0.0)
        acting.load_state_dict(agent.state_dict())
        acting.progress_remaining = 0.0
        assert torch.equal(acting.act(obs).action, action)


@every_case
def test_resumed(case: str, tmp_path: Path) -> None:
    """From disk, in an agent that began elsewhere."""
    agent = make(case)
    book, weather = by_hand(agent), Weather(N, 0)
    updates(agent, book, weather, 2)
    resumed = make(case, seed=9)
    resume_from_disk(resumed, agent, tmp_path)
    updates(resumed, book, weather, 1, 2)
    assert_alike(resumed, book)


@pytest.mark.parametrize("case", ["ppo, box", "pqn"])
def test_compiled(case: str) -> None:
    agent = make(case)
    book = by_hand(agent)
    agent.compile(backend="eager")
    updates(agent, book, Weather(N, 0), 2)
    torch.compiler.reset()
    assert_alike(agent, book)


@every_case
def test_several_seeds_as_one(case: str) -> None:
    """Each of them learns from its own rollout alone."""
    agents = [make(case, seed) for seed in range(3)]
    books, weathers = [by_hand(agent) for agent in agents], [Weather(N, seed) for seed in range(3)]
    together: Any = stack(agent_spec("ppo" if case.startswith("ppo") else "pqn"), agents)
    for update in range(UPDATES):
        together.progress_remaining = 1.0 - update / UPDATES
        parts = collect(together, weathers)
        orders = [order_of(agent) for agent in agents]
        together.learn_each()
        for book, part, order in zip(books, parts, orders, strict=True):
            book.learn([part], [order], together.progress_remaining)
    for agent, book in zip(agents, books, strict=True):
        assert_alike(agent, book)


@every_case
def test_several_ranks(case: str) -> None:
    """One agent that learns from the rollouts of all: every minibatch is made of a part from each."""
    ranks, meeting = [make(case, seed) for seed in range(2)], Meeting(2)
    ranks[1].load_state_dict(ranks[0].state_dict())
    for number, agent in enumerate(ranks):
        across_ranks(agent, meeting.reduce_of(number), 2)
    book, weathers = by_hand(ranks[0]), [Weather(N, seed) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for update in range(UPDATES):
            for agent in ranks:
                agent.progress_remaining = 1.0 - update / UPDATES
            parts = [collect(agent, [weather])[0] for agent, weather in zip(ranks, weathers, strict=True)]
            orders = [order_of(agent) for agent in ranks]
            list(pool.map(lambda agent: agent.learn(), ranks))
            book.learn(parts, orders, ranks[0].progress_remaining)
    for agent in ranks:
        assert_alike(agent, book)
