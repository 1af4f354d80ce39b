"""Augmented temporal contrast: its loss by hand, its pairs, the probe, what it buys, and who starts from it."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bits import as_bits, last_state
from gymnasium import spaces
from offline_sets import CARTPOLE, OBS, half_random_cartpole, make_offline, make_set

import rltrain
from rltrain.agents.atc.agent import ATC
from rltrain.agents.atc.contrast import contrastive_loss, shifted
from rltrain.agents.atc.probe import returns_to_go, ridge
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
from rltrain.errors import ConfigError, DatasetError
from rltrain.recording.recorder import record
from rltrain.runs.layout import list_checkpoints

BREAKOUT = "rltrain/MinAtar-Breakout-v1"


@pytest.fixture(scope="module")
def breakout(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return record(BREAKOUT, tmp_path_factory.mktemp("breakout") / "set", policies=["random"], episodes=20, seed=0)


def test_the_loss_is_the_cross_entropy_of_the_pairs() -> None:
    predicted = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    codes = torch.tensor([[3.0, 1.0], [0.5, 1.0], [2.0, 0.0]])
    # Inner products: 3, 0.5, 2 and 2, 2, 0 and 4, 1.5, 2.
    rows = (
        3 - math.log(math.exp(3) + math.exp(0.5) + math.exp(2)),
        2 - math.log(math.exp(2) + math.exp(2) + 1),
        2 - math.log(math.exp(4) + math.exp(1.5) + math.exp(2)),
    )
    loss, accuracy = contrastive_loss(predicted, codes)
    assert loss.item() == pytest.approx(-sum(rows) / 3)
    assert accuracy.item() in (pytest.approx(1 / 3), pytest.approx(2 / 3))  # the second row is a tie


def test_pictures_are_moved_each_by_itself_and_their_border_is_repeated() -> None:
    picture = torch.arange(5 * 6 * 2).reshape(1, 5, 6, 2).expand(40, -1, -1, -1)
    obs = {"picture": picture, "numbers": torch.rand(40, 3)}
    found = shifted(obs, 2, torch.Generator().manual_seed(0), first=False)
    assert isinstance(found, dict)
    assert found["numbers"] is obs["numbers"]
    padded = np.pad(picture[0].numpy(), ((2, 2), (2, 2), (0, 0)), mode="edge")
    crops = {(y, x): padded[y : y + 5, x : x + 6] for y in range(5) for x in range(5)}
    places = [next(at for at, crop in crops.items() if np.array_equal(crop, row)) for row in found["picture"].numpy()]
    assert len(set(places)) > 12
    first = shifted(picture.movedim(-1, 1), 2, torch.Generator().manual_seed(0), first=True)
    assert torch.equal(first.movedim(1, -1), found["picture"])  # type: ignore[union-attr]


def test_a_pair_lies_in_one_episode(tmp_path: Path) -> None:
    agent = make_offline(ATC, make_set(tmp_path / "set", lengths=(5, 3, 8, 1, 6)), val_fraction=0.0, steps_ahead=3)
    assert sorted(agent.batches.rows.tolist()) == [0, 1, 8, 9, 10, 11, 12, 17, 18, 19]


def test_the_probe_is_least_squares_on_returns_to_go(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    features = torch.rand(50, 3, generator=rng, dtype=torch.float64)
    targets = features @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 3.0
    coefficients, offset = ridge(features, targets, 1e-12)
    assert coefficients.squeeze(1).tolist() == pytest.approx([1.0, -2.0, 0.5])
    assert offset.item() == pytest.approx(3.0)
    noisy = targets + torch.rand(50, 1, generator=rng, dtype=torch.float64)
    with_ones = torch.cat([features, torch.ones(50, 1, dtype=torch.float64)], 1)
    expected = torch.linalg.lstsq(with_ones, noisy).solution.squeeze(1)
    coefficients, offset = ridge(features, noisy, 1e-12)
    assert [*coefficients.squeeze(1).tolist(), offset.item()] == pytest.approx(expected.tolist())
    dataset = make_set(tmp_path / "set", lengths=(2, 3))
    a, b, c, d, e = dataset.take("reward", np.arange(5)).astype(float).tolist()
    found = returns_to_go(dataset, 0.5).tolist()
    assert found == pytest.approx([a + 0.5 * b, b, c + 0.5 * (d + 0.5 * e), d + 0.5 * e, e])


def products(path: Path) -> Dataset:
    """Episodes of four random signs. The product of the first and the third stays the same, as does that of the others.

    The action is the first product, of which no single sign says anything.
    """
    rng, episodes, length = np.random.default_rng(0), 300, 8
    bits = np.repeat(rng.integers(0, 2, (episodes, 2)), length, 0)
    signs = rng.choice([-1.0, 1.0], bits.shape)
    obs = np.concatenate([signs, signs * (2 * bits - 1)], 1).astype(np.float32)
    end = np.arange(len(obs)) % length == length - 1
    columns = {"obs": obs, "action": bits[:, 0], "reward": np.ones(len(obs), np.float32)}
    columns |= {"terminated": np.zeros_like(end), "truncated": end}
    with DatasetWriter(path, OBS, spaces.Discrete(2)) as writer:
        writer.add(columns, [length] * episodes, {"obs": obs[end]})
    return Dataset.open(path)


def test_the_probe_finds_what_it_has_learned_without_actions(tmp_path: Path) -> None:
    options = {"policy_kwargs": {"net_arch": [16]}, "latent_size": 32, "tau": 0.05, "learning_rate": 1e-2}
    more = {"batch_size": 128, "gradient_steps": 20, "val_freq": 12, "val_fraction": 0.2}
    agent = make_offline(ATC, products(tmp_path / "set"), **options, **more)
    for _ in range(12):
        metrics = agent.learn()
    assert metrics["probe/untrained_action_accuracy"] < 0.8
    assert metrics["probe/action_accuracy"] > 0.97


def test_the_encoder_of_pictures_learns_alone(breakout: Dataset) -> None:
    options = {"policy_kwargs": {}, "random_shift": 1, "val_fraction": 0.0, "learning_rate": 1e-2}
    agent = make_offline(ATC, breakout, **options)
    before = {name: tensor.clone() for name, tensor in agent.actor.state_dict().items()}
    losses = [float(agent.learn()["train/loss"]) for _ in range(10)]
    assert losses[-1] < losses[0]
    after = agent.actor.state_dict()
    assert {name.partition(".")[0] for name in after if not torch.equal(after[name], before[name])} == {"encoder"}


def test_numbers_are_not_probed_by_accuracy(tmp_path: Path) -> None:
    agent = make_offline(ATC, make_set(tmp_path / "set", spaces.Box(-2.0, 2.0, (2,), np.float32)), val_freq=1)
    metrics = agent.learn()
    assert metrics["probe/action_r2"] < 0.5  # the actions are random
    assert "probe/action_accuracy" not in metrics


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"random_shift": 2}, ConfigError, "random_shift is for pictures"),
        ({"val_fraction": 0.0, "val_by": "who"}, ConfigError, "val_by is for held-out episodes"),
        ({"policy_kwargs": {"net_arch": []}}, ConfigError, "no layers to learn"),
        ({"steps_ahead": 8}, DatasetError, "has more than 8 steps"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, options: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        make_offline(ATC, make_set(tmp_path / "set"), **options)


def test_a_run_resumes_and_others_start_from_it(tmp_path: Path) -> None:
    dataset = half_random_cartpole(tmp_path / "set", 20)
    options: dict[str, Any] = {"device": "cpu", "num_threads": 1, "trackers": ["csv"], "progress": False}
    options["run_dir"] = tmp_path / "runs"
    agent = {"batch_size": 64, "gradient_steps": 4, "val_freq": 5}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor is there a picture of returns to miss
        run = rltrain.train(
            "atc", CARTPOLE, data=str(dataset.path), total_timesteps=5120, save_freq=2560, agent=agent, **options
        )
    assert run.evaluation is None
    wanted = as_bits(last_state(run.run_dir))
    rltrain.resume(list_checkpoints(run.run_dir / "checkpoints")[0], progress=False)
    assert as_bits(last_state(run.run_dir)) == wanted
    learned = rltrain.load(run.run_dir).agent.state_dict()
    for algo, name, more in (
        ("ppo", "actor.pi.0.weight", {}),
        ("dqn", "actor.network.body.0.weight", {"agent": {"policy_kwargs": {"activation_fn": "tanh"}}}),
    ):
        with pytest.warns(UserWarning, match="layers are taken from"):
            after = rltrain.train(
                algo,
                CARTPOLE,
                total_timesteps=64,
                n_eval_episodes=0,
                init_from=str(run.run_dir),
                freeze=["pi" if algo == "ppo" else "body"],
                **{**options, **more},
            )
        found = rltrain.load(after.run_dir).agent.state_dict()
        assert torch.equal(found[name], learned["actor.pi.0.weight"])
