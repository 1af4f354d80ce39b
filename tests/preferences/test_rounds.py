"""Questions are about clips as promised, oracles answer as told, and runs follow the learned reward exactly."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_preferences import CARTPOLE, PENDULUM, asked
from safetensors.numpy import load_file

import rltrain
from rltrain.cli import main
from rltrain.errors import CheckpointError, ConfigError, DatasetError, RLTrainError
from rltrain.preferences.asking import ask
from rltrain.preferences.clips import draw_clips, places_of, steps_of, true_returns
from rltrain.preferences.fitting import fit_preferences
from rltrain.preferences.folder import Preferences, comparisons_of, returns_of
from rltrain.preferences.loop import Plan, train_in_rounds
from rltrain.preferences.oracle import choose, label_by_oracle
from rltrain.preferences.pairs import choose_pairs, disagreement
from rltrain.rewards.ensemble import EnsembleConfig
from rltrain.rewards.files import load_reward
from rltrain.runs.folder import RunFolder
from rltrain.settings import build_config
from rltrain.storage.records import sealed

QUICK = EnsembleConfig(members=3, hidden=[16], epochs=20)
SMALL: dict[str, Any] = {"num_envs": 4, "n_eval_episodes": 2, "trackers": ["csv"], "device": "cpu"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CartPole with answers by the oracle, and a model."""
    prefs = asked(tmp_path_factory.mktemp("made") / "prefs")
    label_by_oracle(prefs)
    fit_preferences(prefs, QUICK)
    return prefs.path


@pytest.fixture
def prefs(made: Path, tmp_path: Path) -> Preferences:
    """A copy of them to change."""
    return Preferences.open(shutil.copytree(made, tmp_path / "prefs"))


def test_clips_go_beyond_ends_and_never_beyond_time_limits(tmp_path: Path) -> None:
    ask(tmp_path / "p", CARTPOLE, pairs=20, segment=8, episodes=12, max_episode_steps=15)
    prefs = Preferences.open(tmp_path / "p")
    dataset = prefs.rounds()[0].dataset
    terminated, truncated = dataset.ends()
    assert terminated.any()
    assert truncated.any()
    assert places_of(dataset, 8).tolist() == [
        int(n) if t else int(n) - 7 for n, t in zip(dataset.episodes.length, terminated, strict=True)
    ]
    clips = draw_clips(dataset, 8, 400, np.random.default_rng(0))
    steps, counts = steps_of(dataset, 8, clips)
    for clip, mine, there in zip(clips, steps, counts, strict=True):
        first, end = dataset.episodes.start[clip.episode], dataset.episodes.end[clip.episode]
        assert mine[0] == first + clip.start
        assert mine[there].tolist() == list(range(mine[0], min(mine[0] + 8, end)))
        assert there.all() or terminated[clip.episode]
    returns = true_returns(dataset, 8, clips)
    assert np.array_equal(returns, counts.sum(1))  # CartPole pays 1 for every step
    with pytest.raises(ConfigError, match="No episode has the 999 steps of a clip"):
        draw_clips(asked(tmp_path / "q", PENDULUM, pairs=1, segment=5, episodes=2).rounds()[0].dataset, 999, 1, _rng())


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_pairs_that_are_chosen_are_those_the_members_disagree_on(made: Path) -> None:
    prefs = Preferences.open(made)
    dataset, newest = prefs.rounds()[0].dataset, prefs.newest_model()
    assert newest is not None
    model, _ = load_reward(newest)
    by_model = choose_pairs(dataset, prefs.segment, 20, model=model, seed=3)
    by_chance = choose_pairs(dataset, prefs.segment, 20, model=None, seed=3)
    spread = [disagreement(dataset, prefs.segment, pairs, model) for pairs in (by_model, by_chance)]
    assert spread[0].min() > spread[1].mean()
    assert len(by_model) == len(set(by_model)) == 20
    assert all(left != right for left, right in by_model + by_chance)


def test_an_oracle_answers_by_the_true_return_and_goes_on(tmp_path: Path) -> None:
    prefs = asked(tmp_path / "p", pairs=30)
    returns = returns_of(prefs.rounds(), prefs.segment)
    assert label_by_oracle(prefs, most=10) == 10
    assert label_by_oracle(prefs) == 20
    assert label_by_oracle(prefs) == 0
    for answer in prefs.answers.current():
        left, right = returns[answer.pair]
        assert answer.choice == ("equal" if left == right else "left" if left > right else "right")


def test_the_mistakes_of_an_oracle_are_as_frequent_as_told() -> None:
    rng = np.random.default_rng(0)
    wrong = [choose(2.0, 1.0, 0.2, math.inf, rng) == "right" for _ in range(4000)]
    assert np.mean(wrong) == pytest.approx(0.2, abs=0.02)
    better = [choose(2.0, 1.0, 0.0, 0.5, rng) == "left" for _ in range(4000)]
    assert np.mean(better) == pytest.approx(1 / (1 + math.exp(-0.5)), abs=0.02)
    assert {choose(1.0, 1.0, 0.0, 1.0, rng) for _ in range(50)} == {"left", "right"}


@pytest.mark.parametrize(("error_rate", "rationality"), [(1.5, 1.0), (math.nan, 1.0), (0.0, -1.0), (0.0, math.nan)])
def test_impossible_oracles_are_refused(made: Path, error_rate: float, rationality: float) -> None:
    with pytest.raises(ConfigError):
        label_by_oracle(Preferences.open(made), error_rate=error_rate, rationality=rationality)


def test_a_model_is_fitted_once_for_the_same_answers(prefs: Preferences) -> None:
    newest = prefs.newest_model()
    assert fit_preferences(prefs, QUICK) == newest
    prefs.answers.add(prefs.rounds()[0].pairs[0].name, "skip", "oracle")
    again = fit_preferences(prefs, QUICK)
    assert again.name == "0002"
    assert [path.name for path in prefs.models()] == ["0001", "0002"]


def test_later_rounds_are_about_the_same_spaces(prefs: Preferences) -> None:
    made = ask(prefs.path, CARTPOLE, pairs=5, episodes=4)
    assert made.number == 2
    assert made.facts["chosen"] == "by disagreement"
    assert len(prefs.rounds()) == 2
    with pytest.raises(ConfigError, match="those before have"):
        ask(prefs.path, PENDULUM, pairs=5, episodes=4)
    with pytest.raises(ConfigError, match="have 10 steps, not 11"):
        ask(prefs.path, CARTPOLE, segment=11)
    assert len(prefs.rounds()) == 2


def test_mistakes_leave_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "p"
    for what, options in (("rltrain/CartPole-v9", {}), (CARTPOLE, {"policies": ["baseline"]}), (CARTPOLE, {"nope": 1})):
        with pytest.raises(ConfigError):
            ask(path, what, **options)
        assert not path.exists()
    with pytest.raises(DatasetError, match="no preferences in"):
        Preferences.open(path)


def test_changed_files_are_refused(prefs: Preferences) -> None:
    pairs = prefs.path / "rounds/0001/pairs.json"
    whole = json.loads(pairs.read_text())
    del whole["checksum"]
    for listed in ([[0, 0, 0]], [[0, 0, 0, -1]], "x", [[0, 0, 0, True]]):
        pairs.write_text(sealed({**whole, "pairs": listed}))
        with pytest.raises(DatasetError, match="lists no pairs"):
            prefs.rounds()
    pairs.write_text(sealed({**whole, "pairs": [[0, 10**6, 0, 0]]}))
    rounds, answers = prefs.rounds(), [each for each in prefs.answers.current() if each.pair == "0001-00000"]
    with pytest.raises(DatasetError, match="has a clip that no episode has"):
        comparisons_of(rounds, prefs.segment, answers)
    pairs.write_text(sealed({**whole, "dataset": "0" * 64}))
    with pytest.raises(DatasetError, match="was changed since"):
        returns_of(prefs.rounds(), prefs.segment)
    pairs.write_text(pairs.read_text().replace("by chance", "by choice"))
    with pytest.raises(DatasetError, match="its checksum differs"):
        prefs.rounds()


@pytest.mark.parametrize(("algo", "env"), [("ppo", CARTPOLE), ("sac", PENDULUM)])
def test_a_run_follows_the_learned_reward_and_resumes_exactly(algo: str, env: str, tmp_path: Path) -> None:
    prefs = asked(tmp_path / "prefs", env, pairs=20, segment=6, episodes=4)
    label_by_oracle(prefs)
    model = fit_preferences(prefs, QUICK)
    agent = (
        {"n_steps": 16}
        if algo == "ppo"
        else {"learning_starts": 16, "buffer_size": 1000, "policy_kwargs": {"net_arch": [8]}}
    )
    options: dict[str, Any] = {**SMALL, "agent": agent, "reward_model": str(prefs.path), "save_freq": 32}
    whole = rltrain.train(algo, env, total_timesteps=128, run_dir=str(tmp_path / "a"), **options)
    half = rltrain.train(algo, env, total_timesteps=64, run_dir=str(tmp_path / "b"), **options)
    fit_preferences(prefs, QUICK, seed=1)  # a newer model, which the run does not know
    again = rltrain.resume(half.run_dir, total_timesteps=128)
    plain = rltrain.train(
        algo, env, total_timesteps=128, run_dir=str(tmp_path / "c"), **{**options, "reward_model": None}
    )
    policies = [_policy(each.run_dir) for each in (whole, again, plain)]
    if algo == "sac":  # no schedule depends on the total
        assert all(np.array_equal(policies[0][name], policies[1][name]) for name in policies[0])
    assert not all(np.array_equal(policies[0][name], policies[2][name]) for name in policies[0])
    metadata = RunFolder(whole.run_dir).metadata()
    assert metadata["reward_model"]["path"] == str(model.absolute())
    assert metadata["reward_model"]["labels"] == prefs.answers.checksum()
    progress = (whole.run_dir / "progress.csv").read_text()
    assert "info/learned_reward" in progress
    assert "info/true_reward" in progress
    shutil.rmtree(model)
    with pytest.raises(CheckpointError, match="is missing"):
        rltrain.resume(half.run_dir, total_timesteps=512)


def _policy(run: Path) -> dict[str, np.ndarray]:
    path, _ = RunFolder(run).checkpoint("latest")
    return load_file(path / "policy.safetensors")


def test_a_run_does_not_go_on_with_another_model(prefs: Preferences, tmp_path: Path) -> None:
    options: dict[str, Any] = {**SMALL, "agent": {"n_steps": 16}, "reward_model": str(prefs.path)}
    run = rltrain.train("ppo", CARTPOLE, total_timesteps=64, run_dir=str(tmp_path / "runs"), **options).run_dir
    newer = fit_preferences(prefs, QUICK, seed=5)
    first = prefs.models()[0]
    shutil.rmtree(first)
    shutil.copytree(newer, first)
    with pytest.raises(CheckpointError, match="is another reward model"):
        rltrain.resume(run, total_timesteps=128)


@pytest.mark.parametrize(
    ("algo", "env", "more", "what"),
    [
        ("ppo", PENDULUM, {}, "reward model is of"),
        ("bc", CARTPOLE, {"data": "DATA"}, "learns from a dataset"),
        ("sb3/ppo", CARTPOLE, {}, "does not reach"),
        ("ppo", CARTPOLE, {"reward_model": "nowhere"}, "no folder"),
    ],
)
def test_what_cannot_be_trained_so_is_said(
    made: Path, tmp_path: Path, algo: str, env: str, more: dict[str, Any], what: str
) -> None:
    options = {"reward_model": str(made), "run_dir": str(tmp_path / "runs"), "total_timesteps": 64, **more}
    if "data" in options:
        options["data"] = str(made / "rounds/0001/episodes")
    with pytest.raises(RLTrainError, match=what):
        rltrain.train(algo, env, **options)
    assert not (tmp_path / "runs").exists()


def test_rounds_go_on_where_they_stopped_and_wait_for_people(tmp_path: Path) -> None:
    config, _ = build_config("ppo", CARTPOLE, {**SMALL, "total_timesteps": 256, "agent": {"n_steps": 16}})
    plan = Plan(rounds=2, pairs=21, episodes=6, segment=8, ensemble=QUICK)

    def nobody(prefs: Preferences, questions: Any) -> None:
        """Leaves the questions to people."""

    def oracle(prefs: Preferences, questions: Any) -> None:
        label_by_oracle(prefs, pairs=questions)

    first = train_in_rounds(tmp_path / "a", config, plan, nobody, progress=False)
    assert (len(first.waiting), first.runs) == (11, [])
    label_by_oracle(Preferences.open(tmp_path / "a"))
    second = train_in_rounds(tmp_path / "a", config, plan, nobody, progress=False)
    assert (len(second.waiting), len(second.runs)) == (10, 1)
    done = train_in_rounds(tmp_path / "a", config, plan, oracle, progress=False)
    at_once = train_in_rounds(tmp_path / "b", config, plan, oracle, progress=False)
    again = train_in_rounds(tmp_path / "b", config, plan, oracle, progress=False)
    assert again == at_once
    assert len(done.runs) == len(at_once.runs) == 2
    for one, other in zip(done.runs, at_once.runs, strict=True):
        mine, theirs = _policy(one), _policy(other)
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    last = RunFolder(done.runs[1])
    assert last.config().init_from == str(done.runs[0])
    assert Path(str(last.config().reward_model)).name == "0002"
    with pytest.raises(ConfigError, match="fewer than 2 rounds"):
        train_in_rounds(tmp_path / "c", config, Plan(rounds=2, pairs=1), oracle)


def test_the_verbs_do_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    verb = "preferences"
    assert main([verb, "ask", "p", CARTPOLE, "--pairs", "30", "--segment", "8", "--episodes", "8"]) == 0
    assert "30 pairs of clips of 8 episodes" in capsys.readouterr().out
    assert main([verb, "label", "p", "--oracle", "--error-rate", "0.1"]) == 0
    assert main([verb, "fit", "p", "--members", "2", "--hidden", "16", "--epochs", "5"]) == 0
    assert "held out accuracy" in capsys.readouterr().out
    assert main([verb, "show", "p", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["labellers"]["oracle"]["answers"] == 30
    assert Path(facts["picture"]).stat().st_size > 10_000
    small = ["--num-envs", "4", "--agent.n-steps", "16", "--n-eval-episodes", "2", "--no-progress", "--trackers", "csv"]
    train = [verb, "train", "q", "ppo", CARTPOLE, "--rounds", "2", "--pairs", "16", "--episodes", "6", "--segment", "8"]
    assert main([*train, "--oracle", *small, "--total-timesteps", "128"]) == 0
    assert "round 2" in capsys.readouterr().out
    assert main([verb, "show", "q"]) == 0
    assert "round 2    8 of 8 pairs answered, chosen by disagreement" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["sow"], "There is no 'rltrain preferences sow'."),
        (["show", "nowhere"], "There are no preferences in 'nowhere'."),
        (["ask", "p", "rltrain/CartPole-v1", "--pairs", "0"], "'0' is not a whole number"),
        (["ask", "p", "rltrain/Pendulum-v1", "--segment", "600", "--episodes", "2"], "No episode has the 600 steps"),
        (["label", "p", "--error-rate", "0.5"], "'--error-rate' is of an oracle."),
        (["fit", "nowhere"], "There are no preferences"),
        (["train", "p", "ppo", "rltrain/CartPole-v1", "--run-dir", "x"], "keeps its runs in DIR"),
        (["train", "p", "ppo", "rltrain/CartPole-v1", "--num-seeds", "2"], "'--num-seeds' is not for rounds"),
        (["train", "p", "ppo", "rltrain/CartPole-v1", "--machine", "a"], "is one of a file of prices"),
        (["train", "p", "ppo", "rltrain/CartPole-v1", "--agent.gama", "1"], "There is no option 'agent.gama'."),
    ],
)
def test_mistakes_are_said_in_two_lines(
    words: list[str], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["preferences", *words]) in (2, 4)
    lines = capsys.readouterr().err.strip().splitlines()
    assert what in lines[0]
    assert len(lines) == 2
    assert list(tmp_path.iterdir()) == []
