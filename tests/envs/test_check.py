"""The check finds the one mistake in a tensor environment, names it, and says what to do."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from countdown import Countdown
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain.check.conformance import TENSOR_CHECKS, check_env, run_check, subject_of
from rltrain.cli import main
from rltrain.env import TensorEnv
from rltrain.errors import ConfigError
from rltrain.vec import TensorVecEnv, VecStep


@dataclass
class Place:
    x: Tensor  # (N,) m, from 0 to 2
    steps: Tensor  # (N,) int64


class Sound(TensorEnv[Place]):
    """Go right until the end. There is nothing wrong with it."""

    max_episode_steps = 40

    def __init__(self, *, pace: float = 0.3, **base: Any) -> None:
        super().__init__(**base)
        self.pace = self.constant("pace", pace, above=0)
        self.observation_space = spaces.Box(0.0, 2.0, (1,))
        self.action_space: spaces.Space = spaces.Discrete(2)

    def reset(self, n: int, rng: torch.Generator | None) -> Place:
        x = torch.rand(n, generator=rng, device=self.device, dtype=self.dtype) / 2
        return Place(x, torch.zeros_like(x, dtype=torch.int64))

    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        x = (state.x + self.pace * (action - 0.3)).clamp(0, 2)
        return Place(x, state.steps + 1), -torch.ones_like(x), x >= 2

    def observe(self, state: Place) -> Any:
        return state.x.unsqueeze(1)

    def render(self, state: Place, index: int = 0) -> Tensor:
        return torch.full((8, 8, 3), int(100 * state.x[index]), dtype=torch.uint8)


class Ragged(Sound):
    def observe(self, state: Place) -> Tensor:
        return torch.stack((state.x, state.x), 1)


class Precise(Sound):
    def observe(self, state: Place) -> Tensor:
        return super().observe(state).double()


class OutOfBounds(Sound):
    def observe(self, state: Place) -> Tensor:
        return 3 * super().observe(state)


class NotANumber(Sound):
    def observe(self, state: Place) -> Tensor:
        return (1 - state.x).sqrt().unsqueeze(1)


class InfiniteReward(Sound):
    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        after, _, over = super().step(state, action, rng)
        return after, 1 / (state.x - after.x).clamp(min=0), over


class DrawsAtLarge(Sound):
    def reset(self, n: int, rng: torch.Generator | None) -> Place:
        return super().reset(n, None)


class OwnGenerator(Sound):
    def reset(self, n: int, rng: torch.Generator | None) -> Place:
        torch.rand(1, generator=rng, device=self.device)
        return super().reset(n, None if self.device.type == "meta" else torch.Generator().manual_seed(1))


class Social(Sound):
    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        after, reward, over = super().step(state, action, rng)
        return after, reward + after.x.mean(), over


class Forgetful(Sound):
    """Counts its steps where no state is."""

    count = 0

    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        self.count += 1
        after, reward, over = super().step(state, action, rng)
        return after, reward * self.count, over


class InPlace(Sound):
    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        state.x += self.pace * (action - 0.3)
        state.x.clamp_(0, 2)
        return Place(state.x, state.steps + 1), -torch.ones_like(state.x), state.x >= 2


class Peeking(Sound):
    def observe(self, state: Place) -> Tensor:
        state.steps += 1
        return super().observe(state)


class OneBuffer(Sound):
    def observe(self, state: Place) -> Tensor:
        if len(state.x) != len(getattr(self, "buffer", ())):
            self.buffer = torch.zeros(len(state.x), 1, device=self.device)
        return self.buffer.copy_(state.x.unsqueeze(1))


class TakesActions(Sound):
    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        return super().step(state, action.clamp_(min=1), rng)


class ResetsItself(Sound):
    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        after, reward, over = super().step(state, action, rng)
        fresh = self.reset(len(over), rng)
        return (
            Place(*(torch.where(over, a, b) for a, b in ((fresh.x, after.x), (fresh.steps, after.steps)))),
            reward,
            over,
        )


class ResetsItselfToOneStart(ResetsItself):
    def reset(self, n: int, rng: torch.Generator | None) -> Place:
        return Place(torch.full((n,), 0.25, device=self.device), torch.zeros(n, dtype=torch.int64, device=self.device))


class OverAtOnce(Sound):
    def reset(self, n: int, rng: torch.Generator | None) -> Place:
        start = super().reset(n, rng)
        return Place(torch.where(start.x < 0.1, 2.5, start.x), start.steps)

    def observe(self, state: Place) -> Tensor:
        return super().observe(state).clamp(0, 2)

    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        after, reward, over = super().step(state, action, rng)
        return after, reward, over | (state.x > 2)


class SolvedAtOnce(Sound):
    def info(self, state: Place) -> dict[str, Tensor]:
        return {"is_success": state.x < 5}


class OnTheHost(Sound):
    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        after, reward, over = super().step(state, action, rng)
        after.x = after.x + torch.zeros(len(after.x), device="cpu")
        return after, reward, over


class Waiting(Sound):
    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        after, reward, over = super().step(state, action, rng)
        reward[over] = 10.0
        return after, reward, over


class ShapesOfAMask(Sound):
    def info(self, state: Place) -> dict[str, Tensor]:
        return {"far": state.x[state.x > 1]}


class Careless(Sound):
    def __init__(self, *, pace: float = 0.3, **base: Any) -> None:
        super().__init__(pace=0.3, **base)
        self.speed = pace


class Spaceless(Sound):
    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        del self.action_space


class Nested(Sound):
    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        inner = spaces.Dict({"x": self.observation_space})
        self.observation_space = spaces.Dict({"inner": inner})  # type: ignore[assignment]


class UnboundedAction(Sound):
    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        self.action_space = spaces.Box(-math.inf, math.inf, ())

    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        return super().step(state, (action > 0).long(), rng)


class WrongPicture(Sound):
    def render(self, state: Place, index: int = 0) -> Tensor:
        return super().render(state, index).float()


class NumpyPicture(Sound):
    def render(self, state: Place, index: int = 0) -> Any:
        return super().render(state, index).numpy()


class ChangingPicture(Sound):
    def render(self, state: Place, index: int = 0) -> Tensor:
        return torch.randint(256, (8, 8, 3)).to(torch.uint8)


class ChangingInfo(Sound):
    def info(self, state: Place) -> dict[str, Tensor]:
        self.calls = getattr(self, "calls", 0) + 1
        return {"x": state.x} if self.calls % 3 else {"x": state.x, "third": state.x}


class Raising(Sound):
    def step(self, state: Place, action: Tensor, rng: torch.Generator | None) -> Any:
        return super().step(state, action[:, 0], rng)


# class, the check that finds it, words of the message, words of the fix
BROKEN: list[tuple[type[Sound], str, str, str]] = [
    (Ragged, "shapes", "observe returned an observation of shape (8, 2)", "(8, 1)"),
    (Precise, "shapes", "of type torch.float64, and its space of type float32", "dtype=np.float64"),
    (OutOfBounds, "bounds", "observation[0] reaches 6, and its space ends at 2", "Widen the space"),
    (NotANumber, "numbers", "becomes NaN", "roots"),
    (InfiniteReward, "numbers", "the reward becomes NaN or infinite", "finite"),
    (DrawsAtLarge, "seeds", "two runs from the same seed differ: in obs of step 1", "generator=rng"),
    (OwnGenerator, "seeds", "different seeds are equal", "make none of your own"),
    (Social, "rows", "depends on the actions in the other rows: in reward of step 1", "own state alone"),
    (Forgetful, "memory", "another result from the same state, action and rng: reward, in step 1", "in the state"),
    (Forgetful, "saving", "differs from the one that went on: in reward", "not saved"),
    (InPlace, "aliasing", "step changes the state that it is given: x", "torch.where"),
    (Peeking, "aliasing", "observe, action_mask or info changes the state: steps", "copy"),
    (OneBuffer, "aliasing", "observe returns the same memory in every call", "a new tensor"),
    (TakesActions, "kept", "step changes the actions", "action.clone()"),
    (ResetsItself, "autoreset", "step returns the state of a new one", "in which the episode ended"),
    (ResetsItselfToOneStart, "autoreset", "step returns the state of a new one", "in which the episode ended"),
    (OverAtOnce, "starts", "of 256 episodes end with their first step", "left to do"),
    (SolvedAtOnce, "starts", "256 of 256 episodes are a success before the first step", "left to do"),
    (OnTheHost, "devices", "does not run on device='meta'", "device=self.device"),
    (Waiting, "waits", "the host waits for the device in index_put_, test_check.py line", "torch.where"),
    (ShapesOfAMask, "waits", "in index.Tensor, test_check.py line", "torch.where"),
    (ShapesOfAMask, "shapes", "info.far", "same shapes"),
    (Careless, "constants", "pace=nan is accepted", "self.constant('pace', pace)"),
    (Spaceless, "spaces", "action_space is None", "Set self.action_space"),
    (Nested, "spaces", "the entry 'inner' with entries of its own", "flat Dict"),
    (UnboundedAction, "spaces", "the action space is unbounded", "Box(-1, 1)"),
    (NumpyPicture, "pictures", "render returns a ndarray", "a tensor (H, W, 3) uint8"),
    (WrongPicture, "pictures", "torch.float32 on cpu", "uint8"),
    (ChangingPicture, "pictures", "the same state gives different pictures", "without chance"),
    (ChangingInfo, "shapes", "info.third was missing, and then shape (8,)", "same tensors"),
    (Raising, "rows", "IndexError in test_check.py line", "Mend the line"),
]


def findings(cls: type[TensorEnv], check: str) -> list[Any]:
    subject, checks = subject_of(cls)
    return run_check(checks[check], subject, check)


@pytest.mark.parametrize("check", TENSOR_CHECKS)
def test_nothing_is_found_where_nothing_is_wrong(check: str) -> None:
    assert findings(Sound, check) == []


@pytest.mark.parametrize(
    ("cls", "check", "message", "fix"), BROKEN, ids=lambda x: x.__name__ if type(x) is not str else ""
)
def test_a_mistake_is_found_and_named(cls: type[Sound], check: str, message: str, fix: str) -> None:
    found = findings(cls, check)
    assert [each for each in found if message in each.message and fix in each.fix], found


def test_the_report_goes_on_after_what_raises() -> None:
    report = check_env(Raising)
    assert not report.ok
    assert len({(each.message, each.fix) for each in report.findings}) == len(report.findings)
    assert "spaces" in report.passed
    assert report.facts["speed"] == "not known: IndexError"
    assert "errors" in str(report).splitlines()[-1]


def test_the_report_of_a_sound_one() -> None:
    report = check_env(Sound, pace=0.5)
    assert report.ok
    assert report.findings == []
    assert set(report.passed) == set(TENSOR_CHECKS)
    assert report.facts["time limit"] == "40 steps"
    assert "1,024 environments" in report.facts["speed"]
    assert str(report).splitlines()[-1] == "nothing to complain about"


def test_what_cannot_be_made_is_no_finding() -> None:
    class Unmakeable(Sound):
        def __init__(self, **base: Any) -> None:
            super().__init__(**base)
            raise LookupError("no such file")

    with pytest.raises(ConfigError, match=r"'Unmakeable' cannot be made: LookupError in test_check.py line \d+"):
        check_env(Unmakeable)
    with pytest.raises(ConfigError, match=r"no constructor argument 'pase'\. Did you mean 'pace'"):
        check_env(Sound, pase=1.0)


# A vectorised environment by itself


class Ending(TensorVecEnv[Any]):
    """Both terminated and truncated at the limit, like Gymnasium's TimeLimit."""

    def step(self, action: Tensor) -> VecStep:
        step = super().step(action)
        return step._replace(truncated=step.truncated | step.terminated)


class Miscounting(TensorVecEnv[Any]):
    def step(self, action: Tensor) -> VecStep:
        step = super().step(action)
        return step._replace(episode_return=step.episode_return + 1)


class Untyped(TensorVecEnv[Any]):
    def step(self, action: Tensor) -> VecStep:
        step = super().step(action)
        return step._replace(reward=step.reward.double())


def test_a_vectorised_environment_alone() -> None:
    assert rltrain.check_vec_env(rltrain.make_vec("rltrain/CartPole-v1", 16)).ok
    for cls, check, words in (
        (Ending, "limits", "both terminated and truncated"),
        (Miscounting, "statistics", "episode_return is not the sum"),
        (Untyped, "shapes", "reward has shape (6,) and type torch.float64"),
    ):
        report = rltrain.check_vec_env(cls(Countdown(), 6, max_episode_steps=2))
        assert any(words in each.message and each.check == check and each.fix for each in report.errors), str(report)


# The command


def test_on_the_command_line(capsys: pytest.CaptureFixture[str], clean_registries: None) -> None:
    assert main(["check", "rltrain/Pendulum-v1", "--env.kwargs.g", "5"]) == 0
    output = capsys.readouterr().out
    assert "0 errors, 1 warning" in output
    assert "fix: Make the action space Box(-1, 1)" in output
    rltrain.register_env("test/Waiting-v0", Waiting, description="It waits.")
    assert main(["check", "test/Waiting-v0", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert (report["env"], report["ok"]) == ("test/Waiting-v0", False)
    assert [each["check"] for each in report["findings"]] == ["waits"]
    assert report["findings"][0].keys() == {"check", "message", "fix", "level"}


@pytest.mark.parametrize("wrong", ["rltrain/CartPol-v1", "CartPol-v1", "nowhere:Env-v0", 3, Tensor])
def test_what_is_no_environment(wrong: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_env(wrong)
    assert caught.value.fix


def test_an_agent_whose_package_is_not_installed_is_no_fault_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "bare_agents.py").write_text(
        "from rltrain.errors import ConfigError\n"
        "def __getattr__(name):\n"
        "    raise ConfigError('The package absent is not installed.', 'pip install absent')\n"
    )
    code = (
        "import rltrain\n"
        "rltrain.register_agent('bare', 'bare_agents:Agent', 'bare_agents:Config')\n"
        "print(rltrain.check_env('rltrain/CartPole-v1'))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "registration" in run.stdout.partition("passed: ")[2], run.stdout
    assert "bare" not in run.stdout
