"""Blackjack's cards, dealer, rewards and strategy, against Gymnasium's hands and an enumeration of all of them."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.toy_text import blackjack as theirs
from torch import Tensor

from rltrain.envs.toy.blackjack import ENDS, BlackjackState, dealer_chances
from rltrain.errors import ConfigError
from rltrain.make import make_env

RULES: list[dict[str, bool]] = [{"sab": True}, {"sab": False, "natural": True}, {"sab": False, "natural": False}]
every_rule = pytest.mark.parametrize("rules", RULES)


@cache
def dealers(hand: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """What a dealer with this hand may end with, and how likely, card by card as Gymnasium plays it."""
    if len(hand) > 1 and theirs.sum_hand(list(hand)) >= 17:
        return {hand: 1.0}
    ends: dict[tuple[int, ...], float] = {}
    for card in theirs.deck:
        for end, chance in dealers(tuple(sorted((*hand, card)))).items():
            ends[end] = ends.get(end, 0.0) + chance / 13
    return ends


@cache
def ends(showing: int) -> list[tuple[tuple[int, ...], float]]:
    """One hand for each way to end, and how likely that is."""
    found: dict[Any, tuple[tuple[int, ...], float]] = {}
    for hand, chance in dealers((showing,)).items():
        key = theirs.score(list(hand)), theirs.is_natural(list(hand))
        found[key] = (hand, found.get(key, (hand, 0.0))[1] + chance)
    return list(found.values())


def result(player: list[int], dealer: tuple[int, ...], rules: dict[str, bool]) -> float:
    """Gymnasium's reward for sticking."""
    env: Any = theirs.BlackjackEnv(**rules)
    env.player, env.dealer = player, list(dealer)
    return float(env.step(0)[1])


def look(hand: list[int]) -> tuple[int, int]:
    """Points and usable ace."""
    return theirs.sum_hand(hand), theirs.usable_ace(hand)


def states(totals: Tensor, aces: Tensor, naturals: Tensor, showing: Tensor) -> BlackjackState:
    never = torch.zeros_like(naturals)
    return BlackjackState(totals, aces, naturals, showing, torch.full_like(totals, -1), never)


def within(share: float, chance: float, n: int) -> bool:
    """Five standard deviations; what is certain must be."""
    return abs(share - chance) <= 5 * math.sqrt(abs(chance * (1 - chance)) / n) + 1e-9


@pytest.mark.parametrize("showing", range(1, 11))
def test_the_dealers_ends_are_exact(showing: int) -> None:
    expected = [0.0] * len(ENDS)
    for hand, chance in ends(showing):
        score = theirs.score(list(hand))
        expected[5 if theirs.is_natural(list(hand)) else ENDS.index(score)] += chance
    assert dealer_chances(showing) == pytest.approx(expected, abs=1e-12)
    assert sum(dealer_chances(showing)) == pytest.approx(1)


@every_rule
@pytest.mark.parametrize("hand", [[1, 10], [5, 6, 10], [10, 10], [9, 8], [10, 2], [1, 5]], ids=str)
def test_sticking_pays_what_gymnasium_pays_as_often(hand: list[int], rules: dict[str, bool]) -> None:
    n = 20_000
    env = make_env("rltrain/Blackjack-v1", **rules)
    total, ace = look(hand)
    for showing in range(1, 11):
        chances: dict[float, float] = {}
        for dealer, chance in ends(showing):
            reward = result(hand, dealer, rules)
            chances[reward] = chances.get(reward, 0.0) + chance
        state = states(
            torch.full((n,), total),
            torch.full((n,), bool(ace)),
            torch.full((n,), theirs.is_natural(hand)),
            torch.full((n,), showing),
        )
        rng = torch.Generator().manual_seed(showing)
        after, rewards, terminated = env.step(state, torch.zeros(n, dtype=torch.int64), rng)
        assert terminated.all()
        assert set(rewards.tolist()) <= set(chances)
        for reward, chance in chances.items():
            assert within(float((rewards == reward).double().mean()), chance, n), (showing, reward)
        assert torch.equal(env.observe(after), env.observe(state))
        assert torch.equal(env.info(after)["is_success"], rewards > 0)


def test_hits_lead_where_gymnasiums_do() -> None:
    hands = [
        [first, second, *more] for first in range(1, 11) for second in range(1, 11) for more in ([], [6], [1], [9])
    ]
    hands = [hand for hand in hands if not theirs.is_bust(hand)]
    n = 400
    looks = [look(hand) for hand in hands]
    total, ace = (torch.tensor(column).repeat_interleave(n) for column in zip(*looks, strict=True))
    natural = torch.tensor([theirs.is_natural(hand) for hand in hands]).repeat_interleave(n)
    env = make_env("rltrain/Blackjack-v1")
    state = states(total, ace.bool(), natural, torch.full_like(total, 5))
    after, reward, terminated = env.step(state, torch.ones_like(total), torch.Generator().manual_seed(0))
    assert not after.natural.any()
    assert (after.showing == 5).all()
    assert (after.dealer == -1).all()
    seen = torch.stack((after.total, after.usable_ace.long(), reward.long(), terminated.long()), -1).view(-1, n, 4)
    for hand, rows in zip(hands, seen.tolist(), strict=True):
        expected: dict[tuple[int, ...], float] = {}
        for card in theirs.deck:
            bust = theirs.is_bust([*hand, card])
            key = (*look([*hand, card]), -int(bust), int(bust))
            expected[key] = expected.get(key, 0.0) + 1 / 13
        outcomes = [tuple(row) for row in rows]
        assert set(outcomes) <= set(expected)
        for key, chance in expected.items():
            assert within(outcomes.count(key) / n, chance, n), (hand, key)


def test_deals_are_gymnasiums() -> None:
    n = 60_000
    env = make_env("rltrain/Blackjack-v1")
    state = env.reset(n, torch.Generator().manual_seed(0))
    assert torch.equal(state.natural, state.total == 21)
    counts = np.zeros((32, 11, 2))
    np.add.at(counts, tuple(env.observe(state).numpy().T), 1)
    expected = np.zeros_like(counts)
    for first in theirs.deck:
        for second in theirs.deck:
            total, ace = look([first, second])
            for showing in theirs.deck:
                expected[total, showing, ace] += n / 13**3
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    statistic, freedom = ((counts - expected)[possible] ** 2 / expected[possible]).sum(), possible.sum()
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


@cache
def worth_of_sticking(total: int, natural: bool, showing: int) -> float:
    hand = [1, 10] if natural else [2, total - 2]  # any that is no natural
    return sum(chance * result(hand, dealer, RULES[0]) for dealer, chance in ends(showing))


@cache
def worth(total: int, ace: int, showing: int) -> tuple[float, float]:
    """Of sticking and of hitting, if one goes on as well as one can."""
    stick = worth_of_sticking(total, False, showing)
    hit = 0.0
    for card in theirs.deck:
        hand = [1, total - 11, card] if ace else [total, card]
        after, ace_after = look(hand)
        hit += (-1.0 if after > 21 else max(worth(after, ace_after, showing))) / 13
    return stick, hit


def test_the_baseline_is_optimal() -> None:
    hands = [(total, ace, card) for ace in (0, 1) for total in range(4 + 8 * ace, 22) for card in range(1, 11)]
    total, ace, showing = (torch.tensor(column) for column in zip(*hands, strict=True))
    env = make_env("rltrain/Blackjack-v1")
    action = env.baseline(states(total, ace.bool(), torch.zeros_like(ace).bool(), showing))
    for hand, chosen in zip(hands, action.tolist(), strict=True):
        assert worth(*hand)[chosen] >= max(worth(*hand)) - 1e-12, (hand, worth(*hand))


def test_whole_games_are_worth_what_they_should_be() -> None:
    n = 200_000
    env = make_env("rltrain/Blackjack-v1")
    rng = torch.Generator().manual_seed(0)
    state = env.reset(n, rng)
    returns, going = torch.zeros(n), torch.ones(n, dtype=torch.bool)
    for _ in range(12):
        state, reward, terminated = env.step(state, env.baseline(state), rng)
        returns += reward * going
        going &= ~terminated
    expected = 0.0
    for first in theirs.deck:
        for second in theirs.deck:
            total, ace = look([first, second])
            for card in theirs.deck:
                natural = worth_of_sticking(21, True, card) if total == 21 else max(worth(total, ace, card))
                expected += natural / 13**3
    assert float(returns.mean()) == pytest.approx(expected, abs=5 / math.sqrt(n))


def test_the_observation_is_gymnasiums_as_one_vector() -> None:
    ours, original = gymnasium.make("rltrain/Blackjack-v1"), gymnasium.make("Blackjack-v1")
    assert ours.observation_space.nvec.tolist() == [part.n for part in original.observation_space]  # type: ignore
    assert ours.action_space == original.action_space
    assert ours.metadata["render_fps"] == original.metadata["render_fps"]


@pytest.mark.parametrize("wrong", [{"natural": 1}, {"sab": "yes"}])
def test_rules_are_on_or_off(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}=.* is not known"):
        make_env("rltrain/Blackjack-v1", **wrong)
