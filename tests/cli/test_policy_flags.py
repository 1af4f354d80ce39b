"""What ``eval`` and ``watch`` are told arrives and matters: the policy of each checkpoint pays a known amount."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

import rltrain
from rltrain.cli import main

pytestmark = pytest.mark.usefixtures("scripted_known")

PAY = "test/Pay-v0"
PLAN = [50.0, 200.0, 120.0]  # paid in each of two steps, after one update, two, and three; updates are 8 steps apart
SPREAD = 20.0  # deviation of a sampled action


@pytest.fixture(scope="module")
def run(scripted_known: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run whose second checkpoint of three is the best."""
    options: dict[str, Any] = {
        "num_envs": 4,
        "total_timesteps": 24,
        "eval_freq": 8,
        "save_freq": 8,
        "n_eval_episodes": 2,
        "num_threads": 1,
        "device": "cpu",
        "trackers": [],
        "run_dir": tmp_path_factory.mktemp("runs"),
    }
    agent = {"plan": PLAN, "spread": SPREAD}
    return str(rltrain.train("scripted", PAY, progress=False, agent=agent, **options).run_dir)


@pytest.fixture
def evaluated(run: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """What ``eval`` prints about the run, given further words."""

    def evaluate(*words: str, what: str = run) -> dict[str, Any]:
        assert main(["eval", what, "--json", "--device", "cpu", *words]) == 0
        return json.loads(capsys.readouterr().out)

    return evaluate


LUCK = ("--env.kwargs.luck", "100")  # times a number that the seed draws for each episode


@pytest.mark.parametrize(
    ("words", "step", "pay"),
    [
        ((), 24, 240.0),
        (("--checkpoint", "latest"), 24, 240.0),
        (("--checkpoint", "best"), 16, 400.0),
        (("--checkpoint", "8"), 8, 100.0),
        (("--checkpoint", "16"), 16, 400.0),
    ],
    ids=str,
)
def test_eval_plays_the_checkpoint_that_it_names(words: tuple[str, ...], step: int, pay: float, evaluated: Any) -> None:
    found = evaluated(*words, "--episodes", "3")
    assert (found["checkpoint"], found["mean_reward"], found["std_reward"], found["episodes"]) == (step, pay, 0.0, 3)


def test_eval_samples_where_it_is_to(evaluated: Any) -> None:
    """A return is the sum of two samples."""
    likeliest, sampled = evaluated("--episodes", "400"), evaluated("--episodes", "400", "--stochastic")
    assert likeliest["std_reward"] == 0.0
    assert sampled["std_reward"] == pytest.approx(2**0.5 * SPREAD, rel=0.15)
    assert sampled["mean_reward"] == pytest.approx(240.0, abs=6.0)
    assert evaluated("--episodes", "400", "--stochastic") == sampled
    assert evaluated("--episodes", "400", "--stochastic", "--seed", "1") != sampled
    assert evaluated("--episodes", "400", "--seed", "1") == likeliest  # nothing else is left to chance
    best = evaluated("--episodes", "50", "--stochastic", "--checkpoint", "best")
    assert best["mean_reward"] == pytest.approx(400.0, abs=20.0)


def test_eval_plays_the_episodes_of_its_seed(evaluated: Any) -> None:
    found = {seed: evaluated(*LUCK, "--episodes", "5", "--seed", seed) for seed in ("0", "1", "2")}
    means = [each["mean_reward"] for each in found.values()]
    assert len(set(means)) == 3
    assert all(240.0 < mean < 340.0 for mean in means)
    assert found["0"]["std_reward"] > 1.0  # every episode has another start
    assert evaluated(*LUCK, "--episodes", "5") == found["0"]
    assert evaluated(*LUCK, "--episodes", "5", "--seed", "2") == found["2"]


def test_eval_of_an_environment_heeds_its_seed(evaluated: Any) -> None:
    words = ("--episodes", "5")
    found = [evaluated(*words, "--seed", seed, what=PAY) for seed in ("0", "1", "0")]
    assert found[0] == found[2] == evaluated(*words, what=PAY)
    assert found[0] != found[1]


@pytest.fixture
def filmed(run: str, tmp_path: Path) -> Any:
    """The red and green of every picture of a film."""

    def film(*words: str, what: str = run) -> list[tuple[int, int]]:
        out = tmp_path / "film.gif"
        assert main(["watch", what, "--out", str(out), "--device", "cpu", *words]) == 0
        with Image.open(out) as picture:
            frames = [np.asarray(frame.convert("RGB"))[8, 8] for frame in ImageSequence.Iterator(picture)]
        return [(int(frame[0]), int(frame[1])) for frame in frames]

    return film


@pytest.mark.parametrize(
    ("words", "red"),
    [((), 120), (("--checkpoint", "latest"), 120), (("--checkpoint", "best"), 200), (("--checkpoint", "8"), 50)],
    ids=str,
)
def test_watch_films_the_checkpoint_that_it_names(words: tuple[str, ...], red: int, filmed: Any) -> None:
    (first, _), *others = filmed(*words)
    assert first == 0  # nothing has been said yet
    assert [said for said, _ in others] == pytest.approx([red] * len(others), abs=3)
    assert others


def test_watch_samples_where_it_is_to(filmed: Any) -> None:
    likeliest, sampled = filmed(), filmed("--stochastic")
    assert len({said for said, _ in sampled[1:]}) == 2  # another in each step
    assert all(40 < said < 200 for said, _ in sampled[1:])
    assert sampled[1:] != likeliest[1:]
    assert filmed("--stochastic") == sampled
    assert filmed("--stochastic", "--seed", "1")[1:] != sampled[1:]


@pytest.mark.parametrize("what", ["the run", PAY])
def test_watch_films_the_episode_of_its_seed(what: str, run: str, filmed: Any) -> None:
    name = run if what == "the run" else what
    films = {seed: filmed("--seed", seed, what=name) for seed in ("0", "1", "2")}
    assert len({film[0][1] for film in films.values()}) == 3
    assert filmed(what=name) == films["0"]
    assert filmed("--seed", "2", what=name) == films["2"]


@pytest.mark.parametrize(("sampled", "seed"), [(False, 0), (False, 3), (True, 0), (True, 3)])
def test_python_means_the_same(sampled: bool, seed: int, run: str, evaluated: Any) -> None:
    words = [*LUCK, "--episodes", "20", "--seed", str(seed), *(["--stochastic"] if sampled else [])]
    options: dict[str, Any] = {"episodes": 20, "deterministic": not sampled, "seed": seed, "luck": 100.0}
    assert rltrain.evaluate(run, **options).mean_reward == evaluated(*words)["mean_reward"]
    best = rltrain.load(run, checkpoint="best")
    assert best.evaluate(**options).mean_reward == evaluated(*words, "--checkpoint", "best")["mean_reward"]


def test_a_prediction_samples_where_it_is_to(run: str) -> None:
    policy, obs = rltrain.load(run), np.zeros((500, 1), np.float32)
    likeliest, _ = policy.predict(obs)
    assert (likeliest == 120.0).all()
    samples, _ = policy.predict(obs, deterministic=False)
    assert samples.std() == pytest.approx(SPREAD, rel=0.15)
    assert samples.mean() == pytest.approx(120.0, abs=4.0)
