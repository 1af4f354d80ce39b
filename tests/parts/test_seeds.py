"""Seeds lead to streams of their own: of every run, rank, environment and purpose."""

from __future__ import annotations

import torch
from streams import SeedTeller, as_rank, gymnasium_seeds, starts, stream_keys

from rltrain.rng import derive_seed, make_generator

SEEDS, ENVS, RANKS = range(20), 16, 4


def test_the_first_rank_has_the_seed_of_the_run_and_every_other_one_of_its_own() -> None:
    seeds = [as_rank(rank, RANKS).seed(seed) for seed in SEEDS for rank in range(RANKS)]
    assert len(set(seeds)) == len(seeds)
    assert [as_rank(0, RANKS).seed(seed) for seed in SEEDS] == list(SEEDS)


def test_no_two_streams_have_the_same_generator() -> None:
    keys = stream_keys(SEEDS, RANKS)
    assert len(set(keys)) == len(keys) == len(SEEDS) * RANKS * 4


def test_no_two_environments_of_gymnasium_get_the_same_seed() -> None:
    seeds = gymnasium_seeds(SEEDS, ENVS, RANKS)
    assert len(set(seeds)) == len(seeds) == len(SEEDS) * ENVS * RANKS
    assert all(0 <= seed < 2**31 for seed in seeds)  # what libraries in C take


def test_no_two_tensor_environments_begin_alike() -> None:
    found = starts(SEEDS, ENVS, RANKS)
    assert len(found.unique(dim=0)) == len(found) == len(SEEDS) * ENVS * RANKS


def test_the_seed_that_is_told_is_the_seed_that_is_given() -> None:
    """The control of the tests above."""
    env = SeedTeller()
    assert int(env.reset(seed=2**31 - 1)[0][0]) == 2**31 - 1


def test_generators_take_all_of_a_seed_that_they_can() -> None:
    """Derived seeds differ in their lower halves, which is all that torch's generator on the CPU takes."""
    drawn = {torch.rand((), generator=make_generator("cpu", derive_seed(seed, "env"))).item() for seed in range(1000)}
    assert len(drawn) > 995
