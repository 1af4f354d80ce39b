"""Prioritised replay: frequencies, weights and priorities against the formulas of Schaul et al. (2016)."""

from __future__ import annotations

import copy

import pytest
import torch
from histories import GAMMA, Histories, chi_square
from torch import Tensor

from rltrain.agents.parts.replay import BLOCK, PrioritizedReplay, _first_above

CPU = torch.device("cpu")
DRAWS = 20_000


def make(capacity: int, num_envs: int = 1, alpha: float = 1.0) -> PrioritizedReplay:
    return PrioritizedReplay(capacity, num_envs, CPU, gamma=GAMMA, alpha=alpha)


def filled(capacity: int, num_envs: int = 1, alpha: float = 1.0, ends: tuple[float, float] = (0.2, 0.2)) -> tuple:
    replay = make(capacity, num_envs, alpha)
    histories = Histories(replay, ends=ends)
    histories.play(capacity // num_envs)
    return replay, histories


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def steps_of(replay: PrioritizedReplay) -> Tensor:
    """Places that are steps, of a replay whose priorities were never set."""
    return replay.priority.nonzero().squeeze(1)


def counted(replay: PrioritizedReplay, draws: int = DRAWS, at_once: int = 40) -> Tensor:
    """How often each place is drawn."""
    places = torch.cat([replay.sample(at_once, rng(seed)).place for seed in range(draws // at_once)])
    return torch.bincount(places, minlength=len(replay.priority)).double()


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("block", [8, BLOCK])
@pytest.mark.parametrize("lacking", [set(), {"cpu"}], ids=["float64", "float32"])
def test_frequencies_are_powers_of_the_errors(
    alpha: float, block: int, lacking: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equation 1, and section 3.3: p is the size of the error, and a little more. At block 8 over several blocks."""
    monkeypatch.setattr("rltrain.agents.parts.replay.BLOCK", block)
    monkeypatch.setattr("rltrain.devices.WITHOUT_FLOAT64", lacking)
    replay, _ = filled(40, 2, alpha)
    places = steps_of(replay)
    errors = torch.linspace(-5.0, 3.0, len(places))
    replay.update(places, errors)
    power = errors.double().abs().add(1e-6).pow(alpha)
    counts = counted(replay)[places]
    assert counts.sum() == DRAWS
    # Drawn from equal shares of the sum the counts vary less than those of independent draws: only one side shows.
    assert chi_square(counts, DRAWS * power / power.sum()) < 3
    assert counts.std() > 0 or alpha == 0


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights_are_the_formula(beta: float) -> None:
    """Section 3.4: (N P(i))^-beta over the largest of the minibatch."""
    replay, _ = filled(30, 3)
    places = steps_of(replay)
    replay.update(places, torch.arange(1.0, len(places) + 1))
    batch = replay.sample(16, rng(), beta)
    chance = replay.priority.double() / replay.priority.double().sum()
    weights = [(len(places) * chance[place].item()) ** -beta for place in batch.place.tolist()]
    wanted = [weight / max(weights) for weight in weights]
    assert batch.weight.tolist() == pytest.approx(wanted, rel=1e-5)
    assert batch.weight.max() == 1.0
    assert len(set(wanted)) > 5 or beta == 0


def test_weighted_draws_have_the_mean_of_all_steps() -> None:
    """What weights are for: with beta 1 an expectation is that of uniform draws, up to the common scale."""
    replay, _ = filled(30, 3)
    places = steps_of(replay)
    replay.update(places, torch.arange(1.0, len(places) + 1))
    rewards, weights = [], []
    for seed in range(800):
        batch = replay.sample(32, rng(seed))
        rewards.append(batch.reward)
        weights.append(1.0 / replay.priority[batch.place])
    reward, weight = torch.cat(rewards).double(), torch.cat(weights).double()
    everything = replay.transitions(places, torch.ones(len(places))).reward.double()
    drawn = (reward * weight).sum() / weight.sum()
    assert drawn.item() == pytest.approx(everything.mean().item(), abs=0.12)
    assert abs(reward.mean() - everything.mean()) > 0.3  # without them it would be another


def test_only_the_rows_of_the_batch_are_updated() -> None:
    replay, _ = filled(30, 3, alpha=0.5)
    before = replay.priority.clone()
    batch = replay.sample(5, rng())
    errors = torch.tensor([-4.0, 0.25, 0.0, 2.0, 9.0])
    replay.update(batch.place, errors)
    wanted = {
        place: (abs(error) + 1e-6) ** 0.5 for place, error in zip(batch.place.tolist(), errors.tolist(), strict=True)
    }
    assert len(wanted) == 5
    for place, priority in enumerate(replay.priority.tolist()):
        assert priority == pytest.approx(wanted.get(place, before[place].item()), rel=1e-5)


def test_a_new_step_gets_the_highest_priority_of_all_so_far() -> None:
    replay, histories = filled(12, 2, ends=(0.0, 0.0))
    assert replay.priority.max() == 1.0  # before any error is known
    places = steps_of(replay)
    replay.update(places[:2], torch.tensor([3.0, 7.0]))
    replay.update(places[:2], torch.tensor([0.5, 0.5]))  # forgotten by the steps, not by the replay
    before = replay.head.clone()
    histories.play()
    assert replay.priority[before].tolist() == pytest.approx([7.0, 7.0], rel=1e-5)
    assert (replay.priority > 6).sum() == 2
    assert replay.priority[replay.head].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("ends", [(0.1, 0.3), (0.0, 1.0)], ids=str)
def test_priorities_are_of_steps_that_are_kept_alone(ends: tuple[float, float]) -> None:
    replay = make(21, 3)
    histories = Histories(replay, ends=ends)
    for step in range(40):
        histories.play()
        assert int((replay.priority > 0).sum()) == len(histories.kept(replay))
        batch = replay.sample(32, rng(step))
        assert len(set(histories.check(replay, batch))) == len(batch.place.unique())
        assert batch.weight.min() > 0
        replay.update(batch.place, batch.reward)


@pytest.mark.parametrize("size", [2, 5, BLOCK - 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK - 1, 3 * BLOCK])
def test_every_place_of_every_block_is_found(size: int) -> None:
    """One place at a time has all the weight, the others nearly none: the first and last of every block too."""
    replay, _ = filled(size, ends=(0.0, 0.0))
    edges = [0, 1, size - 1, size // 2] + [k * BLOCK + shift for k in range(1, 4) for shift in (-1, 0, 1)]
    steps = steps_of(replay)
    assert steps.tolist() == list(range(size))
    for edge in {edge for edge in edges if edge < size}:
        replay.priority[steps] = 1e-6
        replay.priority[edge] = 1e6
        assert (replay.sample(16, rng(edge)).place == edge).float().mean() > 0.9
        replay.priority[edge] = 0.0
        places = replay.sample(256, rng(edge)).place
        assert (places != edge).all()
        assert (replay.priority[places] > 0).all()
    assert replay.priority.numel() % BLOCK == 0
    assert replay.priority.numel() - replay.places < BLOCK


def test_many_small_priorities_beside_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 they would vanish beside it, as 2^25 + 1 = 2^25: every fourth place is found at best."""
    count, large = 2000, 2**25
    replay, _ = filled(count, ends=(0.0, 0.0))
    replay.priority[:count] = 1.0
    replay.priority[0] = large
    total = large + count - 1
    for place in (1, 2, 3, 4, 500, BLOCK - 1, BLOCK, BLOCK + 1, count - 1):
        chance = (large + place - 0.5) / total
        monkeypatch.setattr(
            torch, "rand", lambda size, chance=chance, **kwargs: torch.full((size,), chance, dtype=kwargs["dtype"])
        )
        assert replay.sample(1, None).place.tolist() == [place]


def test_the_first_place_above_each_value() -> None:
    sums = torch.tensor([0.0, 0.0, 1.0, 1.0, 3.0, 3.0])
    values = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.9, 3.0, 9.0])
    assert _first_above(sums, values).tolist() == [2, 2, 2, 4, 4, 4, 4]


def test_draws_are_from_equal_shares_of_the_sum() -> None:
    """Section 3.3: of k equal priorities and a minibatch of k every one comes once."""
    replay, _ = filled(16, ends=(0.0, 0.0))
    for seed in range(20):
        assert sorted(replay.sample(16, rng(seed)).place.tolist()) == list(range(16))


def test_priorities_are_saved() -> None:
    replay, _ = filled(30, 3)
    batch = replay.sample(6, rng())
    replay.update(batch.place, batch.reward)
    resumed = make(30, 3)
    resumed.load_state_dict(copy.deepcopy(replay.state_dict()))
    assert torch.equal(resumed.priority, replay.priority)
    assert resumed.highest == replay.highest > 1
