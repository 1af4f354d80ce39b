"""The replay equals plain lists that keep everything."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from histories import GAMMA, Histories, chi_square, show

from rltrain.agents.parts.replay import PrioritizedReplay, Replay
from rltrain.tree import leaves
from rltrain.vec import VecStep

CPU = torch.device("cpu")
OFTEN, SELDOM, NEVER = (0.15, 0.35), (0.05, 0.05), (0.0, 0.0)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small ring has several."""
    monkeypatch.setattr("rltrain.agents.parts.replay.BLOCK", 8)


def make(capacity: int, num_envs: int, n_steps: int = 1, kind: type[Replay] = Replay) -> Replay:
    return kind(capacity, num_envs, CPU, gamma=GAMMA, n_steps=n_steps)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", [Replay, PrioritizedReplay])
@pytest.mark.parametrize("n_steps", [1, 3, 5])
@pytest.mark.parametrize(("num_envs", "capacity"), [(1, 7), (3, 20), (3, 3)])
@pytest.mark.parametrize("ends", [OFTEN, SELDOM, (0.0, 0.9), (0.9, 0.0), NEVER], ids=str)
def test_every_transition_is_what_happened(
    ends: tuple[float, float], num_envs: int, capacity: int, n_steps: int, kind: type[Replay]
) -> None:
    """Drawn after every step, while the ring goes round several times."""
    replay = make(capacity, num_envs, n_steps, kind)
    histories = Histories(replay, seed=n_steps, ends=ends)
    generator = rng()
    for _ in range(4 * capacity // num_envs):
        histories.play()
        drawn = histories.check(replay, replay.sample(128, generator))
        assert set(drawn) == set(histories.kept(replay))  # and each of them can be drawn


def test_it_remembers_as_many_steps_as_it_is_told_to() -> None:
    replay = make(12, 3)
    histories = Histories(replay, ends=(0.3, 0.0))
    for step in range(1, 20):
        histories.play()
        kept = histories.kept(replay)
        assert len(kept) == 3 * min(step, 4)
        assert set(histories.check(replay, replay.sample(200, rng(step)))) == set(kept)


def test_what_a_truncation_led_to_is_kept_to_the_end() -> None:
    """One truncation after another: each takes the place of a step, and none is lost."""
    replay = make(8, 1, n_steps=3)
    histories = Histories(replay, ends=(0.0, 1.0))
    histories.play(40)
    assert len(histories.kept(replay)) == 4
    assert len(set(histories.check(replay, replay.sample(200, rng())))) == 4


@pytest.mark.parametrize("steps", [9, 30], ids=["filling", "full"])
def test_every_step_is_as_likely_as_any_other(steps: int) -> None:
    """Of an environment where every episode is truncated, too: what its truncations led to takes places of its own."""
    replay = make(48, 3)
    histories = Histories(replay, ends=[(0.2, 0.0), (0.0, 1.0), (0.1, 0.3)])
    histories.play(steps)
    batch = replay.sample(60_000, rng())
    drawn = Counter(batch.obs["number"][batch.weight > 0].flatten().int().tolist())
    assert drawn.keys() == histories.kept(replay).keys()
    counts = torch.tensor([float(count) for count in drawn.values()])
    assert abs(chi_square(counts, counts.mean().expand_as(counts))) < 4
    assert batch.weight.unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("kind", [Replay, PrioritizedReplay])
def test_nothing_is_drawn_that_was_never_written(kind: type[Replay]) -> None:
    """Memory that nobody wrote to may hold anything: here NaN and the largest integers."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # fills what is empty
    try:
        assert torch.empty(1).isnan()
        replay = make(30, 3, 3, kind)
        histories = Histories(replay, ends=(0.0, 0.5))
        for _ in range(15):
            histories.play()
            batch = replay.sample(100, rng())
            for tensor in leaves(batch._asdict()):
                assert tensor.isfinite().all()
            assert ((batch.action >= 0) & (batch.action < 5)).all()  # a row of weight 0 is looked up all the same
        state = replay.state_dict()
        assert all(tensor.isfinite().all() for tensor in leaves(state["ring"]))
    finally:
        torch.use_deterministic_algorithms(deterministic)


def test_observations_keep_their_types() -> None:
    replay = make(6, 2)
    Histories(replay, ends=OFTEN).play(9)
    stored = replay.state_dict()["ring"]["obs"]
    assert {name: x.dtype for name, x in stored.items()} == {
        "number": torch.float32,
        "pixels": torch.uint8,
        "odd": torch.bool,
    }
    assert {name: x.shape[1:] for name, x in stored.items()} == {"number": (1,), "pixels": (2, 3), "odd": ()}


def test_it_keeps_copies() -> None:
    """A step is valid until the next: its memory may be used again."""
    replay = make(10, 2)
    obs = torch.ones(2, 1)
    replay.begin(obs)
    step_obs, reward = torch.full((2, 1), 2.0), torch.full((2,), 3.0)
    action = torch.tensor([1, 1])
    flags = torch.zeros(2, dtype=torch.bool)
    replay.add(action, VecStep(step_obs, reward, flags, flags, step_obs, reward, reward, {}))
    for tensor in (obs, step_obs, reward, action):
        tensor.fill_(0)
    batch = replay.sample(8, rng())
    assert batch.obs.unique().tolist() == [1.0]
    assert batch.next_obs.unique().tolist() == [2.0]
    assert batch.reward.unique().tolist() == [3.0]
    assert batch.action.unique().tolist() == [1]


@pytest.mark.parametrize("kind", [Replay, PrioritizedReplay])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_goes_on_from_its_state_at_any_time(num_envs: int, kind: type[Replay]) -> None:
    for saved_after in range(1, 20, 2):
        replay = make(5 * num_envs, num_envs, 3, kind)
        histories = Histories(replay, seed=saved_after, ends=OFTEN)
        for step in range(saved_after):
            histories.play()
            if isinstance(replay, PrioritizedReplay):
                place = replay.sample(4, rng(step)).place
                replay.update(place, place + torch.rand(4, generator=rng(step)))
        resumed = make(5 * num_envs, num_envs, 3, kind)
        resumed.load_state_dict(copy.deepcopy(replay.state_dict()))
        histories.replays.append(resumed)
        for step in range(6):
            batches = [each.sample(64, rng(step)) for each in histories.replays]
            histories.check(resumed, batches[1])
            for one, other in zip(*(leaves(batch._asdict()) for batch in batches), strict=True):
                assert torch.equal(one, other)
            histories.play()
        one, other = (tuple(leaves(numbers_left_out(each.state_dict()))) for each in histories.replays)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def numbers_left_out(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not isinstance(value, int)}


def test_its_state_is_no_larger_than_what_was_stored() -> None:
    """A large ring that is nearly empty makes a small checkpoint, and nothing is copied for it."""
    replay = make(10_000, 4)
    histories = Histories(replay, ends=OFTEN)
    histories.play(10)
    ring = replay.state_dict()["ring"]
    assert len(ring["end"]) <= 4 * (2 * 10 + 1)
    assert ring["reward"].data_ptr() == replay.state_dict()["ring"]["reward"].data_ptr()
    assert make(4, 2).state_dict() == {}
    make(4, 2).load_state_dict({})


@pytest.mark.parametrize("kind", [Replay, PrioritizedReplay])
def test_a_state_before_the_first_step(kind: type[Replay]) -> None:
    fresh, replay = make(8, 2, 1, kind), make(8, 2, 1, kind)
    fresh.load_state_dict(copy.deepcopy(replay.state_dict()))
    histories = Histories(fresh, replay, ends=OFTEN)
    histories.play(5)
    for one, other in zip(*(leaves(each.sample(9, rng())._asdict()) for each in (fresh, replay)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("capacity", "num_envs"), [(40, 2), (12, 2), (20, 1), (20, 4)])
def test_the_state_of_another_ring_is_refused(capacity: int, num_envs: int) -> None:
    replay = make(20, 2)
    Histories(replay, ends=OFTEN).play(30)
    with pytest.raises(ValueError, match="rows of"):
        make(capacity, num_envs).load_state_dict(replay.state_dict())


OBSERVATIONS = spaces.Dict(
    {
        "number": spaces.Box(-1.0, 1.0, (1,)),
        "pixels": spaces.Box(0, 255, (2, 3), np.uint8),
        "odd": spaces.Box(0, 1, (), bool),
    }
)


@pytest.mark.parametrize("kind", [Replay, PrioritizedReplay])
@pytest.mark.parametrize(("num_envs", "capacity"), [(1, 1500), (3, 2001), (4, 2)])
def test_the_memory_it_says_it_takes(num_envs: int, capacity: int, kind: type[Replay]) -> None:
    replay = make(capacity, num_envs, 1, kind)
    said = replay.memory(OBSERVATIONS, spaces.Discrete(5))
    Histories(replay, ends=NEVER).play(1 + capacity // num_envs)
    held = [*leaves(replay._ring), *([replay.priority] if isinstance(replay, PrioritizedReplay) else [])]
    assert said == sum(tensor.nbytes for tensor in held)
    assert show([1])["pixels"].element_size() == 1
