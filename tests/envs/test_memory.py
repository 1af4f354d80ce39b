"""Memory tasks ask for what was seen, and only for that."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from rltrain.envs.memory.memory_chain import MemoryChain, MemoryChainState
from rltrain.envs.memory.repeat_previous import RepeatPrevious
from rltrain.errors import ConfigError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain_state(context: list[list[float]], query: list[int]) -> MemoryChainState:
    steps = torch.zeros(len(query), dtype=torch.int64)
    return MemoryChainState(torch.tensor(context), torch.tensor(query), steps, torch.zeros(len(query)) > 0)


def test_an_episode_of_memory_chain_by_hand() -> None:
    """What bsuite shows: it observes before it counts the step, so the first observation comes twice."""
    env = MemoryChain(memory_length=4, num_bits=3)
    state = chain_state([[-1.0, 1.0, 1.0]], [2])
    expected = [
        [1.0, 0, -1, 1, 1],
        [1.0, 0, -1, 1, 1],
        [0.75, 0, 0, 0, 0],
        [0.5, 0, 0, 0, 0],
        [0.25, 2, 0, 0, 0],
        [0.0, 0, 0, 0, 0],
    ]
    for i, row in enumerate(expected):
        assert env.observe(state).tolist() == [row]
        if i < 5:
            state, reward, terminated = env.step(state, torch.tensor([1]), None)
            assert (reward.tolist(), terminated.tolist()) == ([float(i == 4)], [i == 4])
            assert env.info(state)["is_success"].tolist() == [i == 4]


@pytest.mark.parametrize("length", [1, 2, 3, 20])
def test_only_the_last_answer_counts(length: int) -> None:
    env = MemoryChain(memory_length=length, num_bits=2)
    cases = list(itertools.product([-1.0, 1.0], [-1.0, 1.0], [0, 1], [0, 1]))  # bits, query, answer
    state = chain_state([[a, b] for a, b, _, _ in cases], [q for *_, q, _ in cases])
    answer = torch.tensor([x for *_, x in cases])
    rng = generator()
    for i in range(length + 1):
        action = answer if i == length else torch.randint(2, answer.shape, generator=rng)
        state, reward, terminated = env.step(state, action, None)
        assert terminated.all() == terminated.any() == (i == length)
        assert i == length or not reward.any()
    assert reward.tolist() == [1.0 if (a, b)[q] == 2 * x - 1 else -1.0 for a, b, q, x in cases]
    assert torch.equal(reward == 1, env.info(state)["is_success"])


def test_the_question_does_not_give_the_answer_away() -> None:
    env = MemoryChain(memory_length=6, num_bits=2)
    contexts = [list(bits) for bits in itertools.product([-1.0, 1.0], repeat=2)]
    state = chain_state(contexts, [1] * 4)
    shown = []
    for _ in range(8):
        shown.append(len({tuple(row) for row in env.observe(state).tolist()}))
        state, _, _ = env.step(state, torch.zeros(4, dtype=torch.int64), None)
    assert shown == [4, 4, 1, 1, 1, 1, 1, 1]


def test_bits_and_questions_are_uniform_and_independent() -> None:
    state = MemoryChain(num_bits=3).reset(24_000, generator())
    bits = ((state.context + 1) / 2).long()
    cells = ((bits * torch.tensor([4, 2, 1])).sum(1) * 3 + state.query).bincount(minlength=24).float()
    assert float(((cells - 1000) ** 2 / 1000).sum()) < 49.7  # chi-square, 23 degrees of freedom, 0.1 %


def play(env: RepeatPrevious, n: int, choose: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns (n,) and the cards (n, cards) of an episode."""
    rng = generator(seed)
    state = env.reset(n, rng)
    cards, total, ended = [env.observe(state)], torch.zeros(n, dtype=env.dtype), False
    while not ended:
        random = torch.randint(4, (n,), generator=rng)
        other = (cards[-1] + 1) % 4
        action = {"memory": env.baseline(state), "random": random, "memoryless": other}[choose]
        state, reward, terminated = env.step(state, action, rng)
        ended = bool(terminated.all())
        assert ended == bool(terminated.any())
        total = total + reward
        cards.append(env.observe(state))
    return total, torch.stack(cards, 1)


@pytest.mark.parametrize(("decks", "k"), [(1, 1), (1, 4), (1, 51), (3, 64)])
def test_every_card_of_the_decks_is_dealt_and_memory_names_them_all(decks: int, k: int) -> None:
    total, cards = play(RepeatPrevious(num_decks=decks, k=k, dtype=torch.float64), 50, "memory")
    assert cards.shape == (50, 52 * decks)
    assert (torch.nn.functional.one_hot(cards, 4).sum(1) == 13 * decks).all()
    torch.testing.assert_close(total, torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_the_card_to_name_is_the_kth_last_that_was_seen(k: int) -> None:
    env, rng, n = RepeatPrevious(k=k), generator(3), 16
    state = env.reset(n, rng)
    seen = [env.observe(state).tolist()]
    for step in range(1, 52):
        action = torch.randint(4, (n,), generator=rng)
        state, reward, terminated = env.step(state, action, rng)
        right = [1.0 if a == card else -1.0 for a, card in zip(action.tolist(), seen[max(step - k, 0)], strict=True)]
        expected = [x / (52 - k) for x in right] if step >= k else [0.0] * n
        assert reward.tolist() == pytest.approx(expected)
        assert terminated.tolist() == [step == 51] * n
        seen.append(env.observe(state).tolist())


def test_cards_are_dealt_without_replacement() -> None:
    """The first three suits are as likely as in a shuffled deck."""
    n = 100_000
    env, rng = RepeatPrevious(k=3), generator(1)
    state = env.reset(n, rng)
    for _ in range(2):
        state, _, _ = env.step(state, torch.zeros(n, dtype=torch.int64), rng)
    found = (state.recent.long() * torch.tensor([16, 4, 1])).sum(1).bincount(minlength=64)
    chi_square = 0.0
    for cell, suits in enumerate(itertools.product(range(4), repeat=3)):
        ways = math.prod(13 - suits[:i].count(suit) for i, suit in enumerate(suits))
        expected = n * ways / (52 * 51 * 50)
        chi_square += (float(found[cell]) - expected) ** 2 / expected
    assert chi_square < 103.4  # 63 degrees of freedom, 0.1 %


def test_what_is_said_about_policies_without_memory() -> None:
    n = 4_000
    for choose, expected in (("random", -0.5), ("memoryless", 26 / 51 - 1)):
        total, _ = play(RepeatPrevious(), n, choose)
        assert float(total.mean()) == pytest.approx(expected, abs=4 * float(total.std()) / math.sqrt(n))


def test_sizes_are_checked() -> None:
    for wrong in ({"memory_length": 0}, {"num_bits": 0}, {"num_bits": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            MemoryChain(**wrong)  # type: ignore[arg-type]
    for wrong in ({"k": 0}, {"k": 52}, {"num_decks": 0}, {"num_decks": True}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            RepeatPrevious(**wrong)  # type: ignore[arg-type]
