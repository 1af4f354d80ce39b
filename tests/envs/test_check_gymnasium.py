"""The check finds the one mistake in a Gymnasium environment, names it, and says what to do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from originals import cliff, taxi

import rltrain
from rltrain.check.conformance import GYMNASIUM_CHECKS, run_check, subject_of
from rltrain.check.gymnasium_env import Plain
from rltrain.cli import main
from rltrain.naming.installed import is_installed
from rltrain.registry import env_specs


class Sound(gymnasium.Env[Any, Any]):
    """Go right until the end. There is nothing wrong with it."""

    def __init__(self) -> None:
        self.observation_space: spaces.Space = spaces.Box(0.0, 1.0, (2,), np.float32)
        self.action_space: spaces.Space = spaces.Discrete(2)

    def look(self) -> Any:
        return np.array([self.x, self.steps / 100], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.x, self.steps = float(self.np_random.uniform(0, 0.5)), 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        self.x = min(max(self.x + 0.2 * (int(action) - 0.3), 0.0), 1.0)
        self.steps += 1
        return self.look(), -1.0, self.x >= 1.0, self.steps >= 100, {}


class Ragged(Sound):
    def look(self) -> Any:
        return super().look()[:1]


class Precise(Sound):
    def look(self) -> Any:
        return super().look().astype(np.float64)


class OutOfBounds(Sound):
    def look(self) -> Any:
        return 3 * super().look()


class NotANumber(Sound):
    def look(self) -> Any:
        return super().look() * np.float32(np.nan if self.steps == 3 else 1)


class OutOfCategories(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Discrete(3)

    def look(self) -> Any:
        return np.int64(self.steps)


class LostEntry(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Discrete(2)})

    def look(self) -> Any:
        return {"a": np.int64(0)}


class RewardArray(Sound):
    def step(self, action: Any) -> Any:
        obs, _, *rest = super().step(action)
        return obs, np.array([-1.0]), *rest


class InfiniteReward(Sound):
    def step(self, action: Any) -> Any:
        obs, _, *rest = super().step(action)
        return obs, -np.inf, *rest


class EndAsNumber(Sound):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, int(terminated), truncated, info


class DrawsAtLarge(Sound):
    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.x = random.random() / 2
        return self.look(), {}


class NeverCleared(Sound):
    steps = 0

    def reset(self, **kwargs: Any) -> Any:
        steps = self.steps
        super().reset(**kwargs)
        self.steps = steps
        return self.look(), {}


class OneBuffer(Sound):
    buffer = np.zeros(2, np.float32)

    def look(self) -> Any:
        self.buffer[:] = super().look()
        return self.buffer


class Open(Sound):
    """Its state is what it returns."""

    def reset(self, **kwargs: Any) -> Any:
        self.state, info = super().reset(**kwargs)
        return self.state, info

    def step(self, action: Any) -> Any:
        self.x = float(self.state[0])
        self.state, *rest = super().step(action)
        return self.state, *rest


class TakesActions(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def step(self, action: Any) -> Any:
        action /= 2
        return super().step(action[0] > 0)


class Unbounded(TakesActions):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def step(self, action: Any) -> Any:
        return super().step(action.copy())


class Textual(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Dict({"x": spaces.Box(0, 1, (1,)), "says": spaces.Text(5)})

    def look(self) -> Any:
        return {"x": super().look()[:1], "says": "hello"}


class SaysOnly(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Text(5)

    def look(self) -> Any:
        return "hello"


class TwoLevers(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(-1.0, 1.0)})

    def step(self, action: Any) -> Any:
        return super().step(action["a"])


class Nested(Sound):
    """Dicts in Dicts, and Tuples in them, which training takes."""

    def __init__(self) -> None:
        super().__init__()
        pair = spaces.Tuple([spaces.Box(0, 1, (1,)), spaces.Discrete(2)])
        self.observation_space = spaces.Dict({"x": spaces.Dict({"pair": pair}), "y": spaces.Discrete(3)})

    def look(self) -> Any:
        return {"x": {"pair": (super().look()[:1], 1)}, "y": 2}


class Unseeded(Sound):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.x, self.steps = 0.25, 0
        return self.look(), {}


class Raising(Sound):
    def step(self, action: Any) -> Any:
        raise ZeroDivisionError("of the author's")


BROKEN: list[tuple[type[Sound], str, str, str]] = [
    (Ragged, "shapes", "has shape (1,), and its space (2,)", "mend the space"),
    (Precise, "types", "of type float64, and its space of type float32", "astype(np.float32)"),
    (OutOfBounds, "bounds", "the observation[0] reaches", "Widen the space"),
    (NotANumber, "numbers", "becomes NaN", "roots"),
    (OutOfCategories, "bounds", "which is not in Discrete(3)", "Mend the space"),
    (LostEntry, "shapes", "has the entries ['a'], and its space ['a', 'b']", "Give those of the space"),
    (RewardArray, "shapes", "of shape (1,)", "Return a float"),
    (InfiniteReward, "numbers", "the reward becomes -inf", "finite"),
    (EndAsNumber, "types", "terminated is 0, a int", "Return a bool"),
    (DrawsAtLarge, "seeds", "reset with the same seed differ in the first observation", "self.np_random"),
    (NeverCleared, "resets", "differs from a new one after the same reset", "step counters"),
    (NeverCleared, "resets", "later on every one ends with its first step", "a counter"),
    (OneBuffer, "aliasing", "writes over the observation", ".copy()"),
    (Open, "aliasing", "writing into an observation changes the environment", ".copy()"),
    (TakesActions, "aliasing", "step changes the action", "np.array(action)"),
    (Unbounded, "spaces", "is unbounded", "Box(-1, 1)"),
    (Textual, "spaces", "'says' of the observations is text, which training leaves out", "as numbers"),
    (SaysOnly, "spaces", "observations cannot be tensors: there is a Text", "Turn the text into numbers"),
    (TwoLevers, "spaces", "no agents that act in Dict", "gymnasium.ActionWrapper"),
    (Unseeded, "gymnasium", "check_env fails", "super().reset(seed=seed)"),
    (Raising, "values", "ZeroDivisionError in test_check_gymnasium.py line", "Mend the line"),
]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """Under ids of their own, so that each check makes new ones."""
    for cls in (Sound, *(row[0] for row in BROKEN)):
        gymnasium.registry.pop(f"mine/{cls.__name__}-v0", None)
        gymnasium.register(f"mine/{cls.__name__}-v0", entry_point=cls)
    yield
    for id in [id for id in gymnasium.registry if id.startswith("mine/")]:
        del gymnasium.registry[id]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    for env in ("mine/Sound-v0", gymnasium.make("mine/Sound-v0"), Sound(), Nested()):
        report = rltrain.check_env(env)  # type: ignore[arg-type]
        assert report.findings == [], str(report)
        assert set(report.passed) == set(GYMNASIUM_CHECKS)
        assert "steps/s of one environment" in report.facts["speed"]


@pytest.mark.parametrize(("cls", "check", "message", "fix"), BROKEN, ids=lambda x: getattr(x, "__name__", ""))
def test_a_mistake_is_found_and_named(cls: type[Sound], check: str, message: str, fix: str) -> None:
    report = rltrain.check_env(f"mine/{cls.__name__}-v0")
    found = [each for each in report.findings if message in each.message and fix in each.fix]
    assert [each.check for each in found][:1] == [check], str(report)


@pytest.mark.parametrize(
    "env",
    [
        "CartPole-v1",
        "MountainCar-v0",
        "Blackjack-v1",
        pytest.param("Taxi-v4", marks=taxi),
        "Acrobot-v1",
        pytest.param("CliffWalking-v1", marks=cliff),
    ],
)
def test_gymnasiums_own_pass(env: str) -> None:
    report = rltrain.check_env(env)
    assert report.ok, str(report)


def test_the_command_takes_gymnasiums_ids(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "MountainCar-v0"]) == 0
    assert "nothing to complain about" in capsys.readouterr().out
    (tmp_path / "some_games.py").write_text(
        "import gymnasium\nfrom test_check_gymnasium import EndAsNumber\n"
        "gymnasium.register('mine/FromModule-v0', entry_point=EndAsNumber)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", "some_games:mine/FromModule-v0"]) == 2
    assert "terminated is 0" in capsys.readouterr().out
    assert "mine/FromModule-v0" not in env_specs()


# Vector environments


def vector(mode: AutoresetMode, cls: type[SyncVectorEnv] = SyncVectorEnv) -> SyncVectorEnv:
    return cls([Sound] * 3, autoreset_mode=mode)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_vector_environment_acts_as_it_says(mode: AutoresetMode) -> None:
    report = rltrain.check_vec_env(vector(mode))
    assert report.errors == [], str(report)
    assert len(report.warnings) == (mode is AutoresetMode.NEXT_STEP)


class WithoutFinal(SyncVectorEnv):
    def step(self, actions: Any) -> Any:
        *rest, infos = super().step(actions)
        infos.pop("final_obs", None)
        return *rest, infos


class RewardsColumn(SyncVectorEnv):
    def step(self, actions: Any) -> Any:
        obs, reward, *rest = super().step(actions)
        return obs, reward[:, None], *rest


class Noisy(SyncVectorEnv):
    def step(self, actions: Any) -> Any:
        obs, reward, *rest = super().step(actions)
        return obs, reward + random.random(), *rest


class NotReset(SyncVectorEnv):
    def step(self, actions: Any) -> Any:
        obs, reward, *rest = super().step(actions)
        return obs, reward - 1, *rest


@pytest.mark.parametrize(
    ("cls", "mode", "message", "fix"),
    [
        (WithoutFinal, AutoresetMode.SAME_STEP, "infos['final_obs'] does not hold", "_final_obs"),
        (RewardsColumn, AutoresetMode.SAME_STEP, "reward has shape (3, 1) for 3 environments", "(3,)"),
        (Noisy, AutoresetMode.SAME_STEP, "two runs from the same seed differ", "Seed every generator"),
        (NotReset, AutoresetMode.NEXT_STEP, "a reward in the step that should be a reset", "Declare the mode"),
    ],
)
def test_a_vector_environments_mistakes(cls: type[SyncVectorEnv], mode: AutoresetMode, message: str, fix: str) -> None:
    report = rltrain.check_vec_env(vector(mode, cls))
    assert [each for each in report.errors if message in each.message and fix in each.fix], str(report)


def test_a_vector_environment_without_a_mode() -> None:
    env = vector(AutoresetMode.SAME_STEP)
    env.metadata = {}
    assert "autoreset_mode=None" in rltrain.check_vec_env(env).errors[0].message


# The innocent


class ReplacesSpace(Sound):
    """As highway-env's parking: a seeded reset makes the action space anew, which forgets how it was seeded."""

    def reset(self, **kwargs: Any) -> Any:
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        return super().step(action[0] > 0)


class Clocked(Sound):
    """Never the same twice, as whatever runs in real time."""

    def look(self) -> Any:
        return np.clip(super().look() + np.float32(1e-3 * random.SystemRandom().random()), 0, 1)


class OnTheBound(Sound):
    """Its values are computed in double precision, on bounds that single precision rounds to the other side."""

    low, high = 0.1, 0.7

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(self.low, self.high, (2,), np.float32)

    def look(self) -> Any:
        return np.array([self.low, self.high])


class OnTheBoundInSingle(OnTheBound):
    def look(self) -> Any:
        return super().look().astype(np.float32)


class RoundedBeyond(OnTheBound):
    """In double precision, and beyond the bound by the last digit."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0.0, 1.0, (2,), np.float64)

    def look(self) -> Any:
        return np.array([0.5, np.nextafter(1.0, 2.0)])


class OnceInAWhile(Sound):
    """Raises once, as a simulator that was not ready yet."""

    tries = 0

    def step(self, action: Any) -> Any:
        type(self).tries += 1
        if self.tries == 700:
            raise TimeoutError("not ready")
        return super().step(action)


@pytest.mark.parametrize(
    "cls", [ReplacesSpace, OnTheBoundInSingle, RoundedBeyond, OnceInAWhile], ids=lambda cls: cls.__name__
)
def test_the_innocent_is_not_accused(cls: type[Sound]) -> None:
    for env in (cls, cls()):
        report = rltrain.check_env(env)  # type: ignore[arg-type]
        assert report.findings == [], str(report)


def test_only_the_type_of_a_value_on_a_bound_is_told() -> None:
    report = rltrain.check_env(OnTheBound)
    assert [each for each in report.findings if each.check == "bounds"] == []
    assert {each.check for each in report.findings} == {"types", "gymnasium"}  # it is float64, and says float32


def test_what_does_not_repeat_itself_is_told_only_that() -> None:
    report = rltrain.check_env(Clocked)
    assert {each.check for each in report.errors} <= {"seeds", "gymnasium"}, str(report)
    assert any(each.check == "seeds" for each in report.errors)


def test_an_object_that_remembers_is_told_so_and_not_that_it_has_no_seed() -> None:
    report = rltrain.check_env(NeverCleared())
    assert "seeds" not in {each.check for each in report.findings}
    assert "resets" in {each.check for each in report.findings}
    report = rltrain.check_env(Single(NeverCleared()))
    assert [each for each in report.findings if "another reset with the same seed" in each.message]
    assert "resets" not in {each.check for each in report.findings}


class Single(gymnasium.Wrapper[Any, Any, Any, Any]):
    """There can be no other."""

    def __deepcopy__(self, _: Any) -> Any:
        raise TypeError("a robot cannot be copied")


def test_a_value_beyond_a_bound_by_rounding_is_shown_in_full() -> None:
    class JustBeyond(OnTheBound):
        def look(self) -> Any:
            return np.array([self.low, np.nextafter(np.float32(self.high), np.float32(1))], np.float32)

    report = rltrain.check_env(JustBeyond)
    (finding,) = [each for each in report.findings if each.check == "bounds"]
    assert "reaches 0.7000000" in finding.message
    assert "ends at 0.69999998" in finding.message


class Stirs(Sound):
    """Draws from np.random, which it seeds itself, so that its episodes repeat."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        outcome = super().reset(seed=seed, options=options)
        if seed is not None:
            np.random.seed(seed)
        return outcome

    def step(self, action: Any) -> Any:
        np.random.random()
        return super().step(action)


def test_generators_of_the_process_are_named() -> None:
    report = rltrain.check_env(Stirs)
    assert report.ok, str(report)
    (finding,) = report.warnings
    assert finding.check == "generators"
    assert "it draws from np.random, or seeds it" in finding.message
    assert "self.np_random" in finding.fix


class Slow(Sound):
    """A step takes a tenth of a second."""

    steps_of_all = 0

    def step(self, action: Any) -> Any:
        Slow.steps_of_all += 1
        return super().step(action)


def test_a_slow_environment_is_stepped_less(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, checks = subject_of(Slow)
    assert isinstance(subject, Plain)
    assert subject.steps(1000) == 1000
    slow, _ = subject_of(Slow)
    slow.__dict__["_pace"] = 0.1
    assert isinstance(slow, Plain)
    assert slow.steps(1000) == 100
    assert slow.steps(100, plays=4) == 25
    Slow.steps_of_all = 0
    assert run_check(checks["values"], slow) == []
    assert Slow.steps_of_all == 100


def test_the_command_says_what_is_checked_if_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rltrain.cli.check.SILENCE", 0.0)
    assert main(["check", "CartPole-v1"]) == 0
    told = capsys.readouterr()
    assert "check: values" in told.err
    assert "check:" not in told.out


class NextStep(SyncVectorEnv):
    """A vector form as Gymnasium has them by default."""

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        super().__init__([Sound] * num_envs)


def test_a_vector_form_is_looked_at_only_where_it_is_used_or_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    gymnasium.register("mine/Vectored-v0", entry_point=Sound, vector_entry_point=NextStep)
    report = rltrain.check_env("mine/Vectored-v0")  # whose author may want to know
    assert [finding.check for finding in report.findings] == ["autoreset"], str(report)
    monkeypatch.setattr("rltrain.check.gymnasium_env.is_installed", lambda entry_point: True)
    report = rltrain.check_env("mine/Vectored-v0")
    assert report.findings == [], str(report)


def test_what_is_installed_is_told_from_what_is_not() -> None:
    assert is_installed("gymnasium.envs.classic_control:CartPoleEnv")
    assert is_installed(gymnasium.Env)
    assert not is_installed(NextStep)
    assert not is_installed("no_such_module:Env")
