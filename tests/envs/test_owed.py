"""What an author of a tensor environment gets wrong first: one line that names the method and what it owes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain import TensorEnv
from rltrain.errors import ConfigError


@dataclass
class Place:
    x: Tensor


class Walk(TensorEnv[Any]):
    """There is nothing wrong with it."""

    observation_space: spaces.Space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space: spaces.Space = spaces.Discrete(2)
    max_episode_steps = 8

    def reset(self, n: int, rng: torch.Generator | None) -> Any:
        return Place(torch.rand(n, generator=rng, device=self.device))

    def step(self, state: Any, action: Tensor, rng: torch.Generator | None) -> Any:
        x = state.x + 0.1 * action
        return Place(x), -x, x > 1

    def observe(self, state: Any) -> Any:
        return state.x.unsqueeze(1)


class FiveValues(Walk):
    def step(self, *args: Any) -> Any:
        return *super().step(*args), torch.zeros(len(args[1]), dtype=torch.bool), {}


class FourValues(Walk):
    def step(self, *args: Any) -> Any:
        return *super().step(*args), {}


class OneValue(Walk):
    def step(self, *args: Any) -> Any:
        return super().step(*args)[0]


class StateAndInfo(Walk):
    def reset(self, n: int, rng: torch.Generator | None) -> Any:
        return super().reset(n, rng), {}


class NoState(Walk):
    def reset(self, n: int, rng: torch.Generator | None) -> Any:
        return None


class NumpyState(Walk):
    def reset(self, n: int, rng: torch.Generator | None) -> Any:
        return Place(np.zeros(n))  # type: ignore[arg-type]


class OneState(Walk):
    def reset(self, n: int, rng: torch.Generator | None) -> Any:
        return Place(torch.zeros(()))


class OtherState(Walk):
    def step(self, *args: Any) -> Any:
        state, *rest = super().step(*args)
        return state.x, *rest


class Wide(Walk):
    def step(self, *args: Any) -> Any:
        state, reward, over = super().step(*args)
        return state, reward.double(), over


class Whole(Walk):
    def step(self, *args: Any) -> Any:
        state, reward, over = super().step(*args)
        return state, reward.long(), over


class PythonReward(Walk):
    def step(self, *args: Any) -> Any:
        state, _, over = super().step(*args)
        return state, -1.0, over


class Column(Walk):
    def step(self, *args: Any) -> Any:
        state, reward, over = super().step(*args)
        return state, reward.unsqueeze(1), over


class PythonBool(Walk):
    def step(self, *args: Any) -> Any:
        state, reward, _ = super().step(*args)
        return state, reward, False


class NumberAsBool(Walk):
    def step(self, *args: Any) -> Any:
        state, reward, over = super().step(*args)
        return state, reward, over.float()


class NumpyObservation(Walk):
    def observe(self, state: Any) -> Any:
        return state.x.unsqueeze(1).numpy()


class DoubleObservation(Walk):
    def observe(self, state: Any) -> Any:
        return state.x.unsqueeze(1).double()


class Flat(Walk):
    def observe(self, state: Any) -> Any:
        return state.x


class InfoOfOne(Walk):
    def info(self, state: Any) -> Any:
        return {"speed": 1.0}


class NoObservationSpace(TensorEnv[Any]):
    action_space = spaces.Discrete(2)
    reset, step, observe = Walk.reset, Walk.step, Walk.observe


class ActionsAsNumber(Walk):
    action_space = 2  # type: ignore[assignment]


class WithoutObserve(TensorEnv[Any]):
    observation_space, action_space = Walk.observation_space, Walk.action_space
    reset, step = Walk.reset, Walk.step


class Uninitialised(Walk):
    def __init__(self, device: Any = "cpu", dtype: Any = torch.float32) -> None:
        pass


class Misspelt(Walk):
    def step(self, state: Any, action: Tensor, rng: torch.Generator | None) -> Any:
        return Place(state.y), action.float(), action > 1


class FailsToStart(Walk):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        raise FileNotFoundError("levels.txt")


class Transposed(Walk):
    """Two numbers for each environment, in the shape (2, N)."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def observe(self, state: Any) -> Any:
        return torch.stack((state.x, state.x))


class ResetWithoutRng(Walk):
    def reset(self, n: int) -> Any:  # type: ignore[override]
        return Place(torch.zeros(n))


class StepWithoutRng(Walk):
    def step(self, state: Any, action: Tensor) -> Any:  # type: ignore[override]
        return state, state.x, state.x > 1


class ObserveWithoutState(Walk):
    def observe(self) -> Any:  # type: ignore[override]
        return torch.zeros(1)


class InitWithoutSuper(Walk):
    def __init__(self, **kwargs: Any) -> None:
        self.goal = torch.zeros(1, device=self.device)


WRONG: list[tuple[type[TensorEnv[Any]], str, str]] = [
    (FiveValues, "FiveValues.step returned 5 values; it owes three: the next state, the reward and terminated", "info"),
    (FourValues, "FourValues.step returned 4 values; it owes three", "nothing else"),
    (OneValue, "OneValue.step returned one Place; it owes three", "nothing else"),
    (StateAndInfo, "StateAndInfo.reset returned (state, info); it owes the states alone", "a method of its own"),
    (NoState, "NoState.reset returned no tensor; it owes the states", ""),
    (NumpyState, "NumpyState.reset returned a Place: expected a tensor", ""),
    (OneState, "OneState.reset(2, rng) returned the state's x of shape (); it owes (2, ...)", ""),
    (OtherState, "OtherState.step returned a Tensor as the next state; it owes what reset returns, a Place", ""),
    (Wide, "Wide.step returned a reward of type torch.float64; it owes torch.float32", "reward.to(self.dtype)"),
    (Whole, "Whole.step returned a reward of type torch.int64; it owes torch.float32", "reward.to(self.dtype)"),
    (PythonReward, "PythonReward.step returned a reward that is a float", "a tensor of shape (2,)"),
    (Column, "Column.step returned a reward of shape (2, 1) for 2 environments", "(2,)"),
    (PythonBool, "PythonBool.step returned terminated that is a bool", "a tensor of shape (2,) and type torch.bool"),
    (NumberAsBool, "NumberAsBool.step returned terminated of type torch.float32", "torch.bool"),
    (
        NumpyObservation,
        "NumpyObservation.observe returned an observation that is a ndarray",
        "a tensor of shape (2, 1)",
    ),
    (DoubleObservation, "DoubleObservation.observe returned an observation of type torch.float64", "dtype=self.dtype"),
    (Flat, "Flat.observe returned an observation of shape (2,) for 2 environments", "(2, 1)"),
    (Transposed, "Transposed.observe returned an observation of shape (2, 3) for 3 environments", "(3, 2)"),
    (InfoOfOne, "InfoOfOne.info returned 'speed' that is a float", "a tensor of shape (2,)"),
    (NoObservationSpace, "NoObservationSpace has no observation_space", "Set self.observation_space"),
    (ActionsAsNumber, "ActionsAsNumber.action_space is 2, which is no space", "Set self.action_space"),
    (Uninitialised, "Uninitialised.__init__ does not call that of TensorEnv", "super().__init__"),
]
UNMAKEABLE = [
    (WithoutObserve, "WithoutObserve has no observe", "Write it"),
    (Misspelt, "Misspelt.step fails: AttributeError: 'Place' object has no attribute 'y'", "Mend it"),
    (ResetWithoutRng, "ResetWithoutRng.reset fails: TypeError", "It takes (self, n, rng)."),
    (StepWithoutRng, "StepWithoutRng.step fails: TypeError", "It takes (self, state, action, rng)."),
    (ObserveWithoutState, "ObserveWithoutState.observe fails: TypeError", "It takes (self, state)."),
    (InitWithoutSuper, "InitWithoutSuper cannot be made: AttributeError", "Call super().__init__("),
    (FailsToStart, "FailsToStart cannot be made: FileNotFoundError: levels.txt", "Mend its __init__"),
]


@pytest.mark.parametrize(("cls", "cause", "fix"), [*WRONG, *UNMAKEABLE], ids=lambda x: getattr(x, "__name__", ""))
def test_training_names_the_method_and_makes_no_folder(
    cls: type[TensorEnv[Any]], cause: str, fix: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        rltrain.train("ppo", cls, progress=False, run_dir=tmp_path / "runs", device="cpu")
    assert cause in caught.value.cause
    assert fix in caught.value.fix
    assert "\n" not in f"{caught.value.cause}{caught.value.fix}"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("cls", "cause", "fix"), WRONG, ids=lambda x: getattr(x, "__name__", ""))
def test_check_tells_the_same_and_nothing_else(cls: type[TensorEnv[Any]], cause: str, fix: str) -> None:
    report = rltrain.check_env(cls)
    assert len(report.findings) == 1, str(report)
    assert cause in report.findings[0].message
    assert fix in report.findings[0].fix


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    rltrain.make_vec(Walk, 3)
    assert rltrain.check_env(Walk).ok
    double = rltrain.make_vec("rltrain/Pendulum-v1", 3, dtype=torch.float64)  # as whoever compares with an original
    assert double.step(torch.zeros(3, 1, dtype=torch.float64) if double.reset(0) is not None else torch.zeros(3, 1))


def test_looking_draws_nothing_from_anybody(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    rltrain.make_vec(Walk, 3)
    assert torch.equal(torch.rand(2), expected)
