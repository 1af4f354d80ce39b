"""Every built-in environment passes the checks of `rltrain check`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium
import pytest
import torch
from countdown import Countdown

from rltrain.check.conformance import TENSOR_CHECKS, run_check
from rltrain.check.gymnasium_env import gymnasium_says
from rltrain.check.play import Player, difference, roll
from rltrain.check.report import Finding
from rltrain.check.tensor_env import Tensors
from rltrain.registry import env_specs
from rltrain.testing import conformance_tests

WITHOUT_CHOICE = {f"rltrain/Probe-{name}-v0" for name in ("ConstantReward", "ObservationReward", "Autoreset")}
"""Where no action makes a difference."""
KNOWN = {("rltrain/Blackjack-v1", "starts"): "stay or draw at 20: most draws end it"}
"""What is so in the game itself."""

subject_of = cache(Tensors)  # one, so that its long walk is walked once


def allowed(env: str, finding: Finding) -> bool:
    """Whether Gymnasium's checker says the same of its own environment of that name, or it is known."""
    twin = str(env).removeprefix("rltrain/")
    if finding.check == "gymnasium" and twin in gymnasium.registry:
        return finding.message in {each.message for each in gymnasium_says(gymnasium.make(twin), render=False)}
    return (env, finding.check) in KNOWN


@pytest.mark.parametrize("check", TENSOR_CHECKS)
@pytest.mark.parametrize("env", [*env_specs(), Countdown], ids=str)
def test_it_keeps_its_promises(env: Any, check: str) -> None:
    found = [each for each in run_check(TENSOR_CHECKS[check], subject_of(env), check) if not allowed(env, each)]
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("env", env_specs())
def test_actions_make_a_difference(env: str) -> None:
    """So that the rows that do not depend on each other's actions depend on their own."""

    def play(seed: int) -> Any:
        vec = subject_of(env).vec(32, 29)
        return roll(vec, vec.reset(0), Player(vec, seed), 120)

    assert (difference(play(1), play(2), row=1) is None) == (env in WITHOUT_CHOICE)


@pytest.mark.parametrize("env", env_specs())
def test_walks_are_long_enough_to_see_an_end(env: str) -> None:
    vec = subject_of(env).vec(32, 29)
    steps = roll(vec, vec.reset(0), Player(vec), 30)
    assert sum(int((step.terminated | step.truncated).sum()) for step in steps) >= 32
    assert any(bool((step.terminated | step.truncated)[0]) for step in steps)


@pytest.mark.parametrize("env", env_specs())
def test_the_generator_is_part_of_what_is_saved(env: str) -> None:
    """A state that is continued with another generator goes on differently, where there is chance."""
    runs = []
    for seed in (None, 99):
        vec = subject_of(env).vec(32, 13)
        obs = roll(vec, vec.reset(0), Player(vec), 30)[-1].obs
        saved = copy.deepcopy(vec.state_dict())
        vec.load_state_dict(
            saved if seed is None else {**saved, "rng": torch.Generator().manual_seed(seed).get_state()}
        )
        runs.append(roll(vec, obs, Player(vec, 1), 60))
    assert (difference(*runs) is None) == subject_of(env).draws_nothing()


def test_as_tests_of_a_plugin() -> None:
    tests: dict[str, Callable[[], None]] = conformance_tests("rltrain/CartPole-v1", skip=["shapes", "bounds"])
    assert {"test_rltrain_CartPole_v1_rows", "test_rltrain_CartPole_v1_numpy_seeds"} <= tests.keys()
    assert len(tests) == len(TENSOR_CHECKS) - 2
    for test in tests.values():
        test()
    with pytest.raises(AssertionError, match=r"warning \(gymnasium\).*infinity"):
        conformance_tests("rltrain/CartPole-v1", strict=True)["test_rltrain_CartPole_v1_gymnasium"]()
    with pytest.raises(ValueError, match="no checks: shape; there are: interface, spaces"):
        conformance_tests("rltrain/CartPole-v1", skip=["shape"])


def test_checks_leave_the_generators_of_the_process_alone() -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conformance_tests("CartPole-v1")["test_CartPole_v1_seeds"]()
    assert torch.equal(torch.get_rng_state(), before)
