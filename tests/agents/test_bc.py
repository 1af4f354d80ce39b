"""Cloning: losses by hand, a loop in float64, all kinds of action, masks, held-out episodes, exact resume, CartPole."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

import rltrain
from rltrain.agents.bc.agent import BC
from rltrain.agents.bc.config import BCConfig
from rltrain.agents.bc.loss import agreement, cloning_loss
from rltrain.agents.parts.distributions import make_distribution
from rltrain.agents.parts.networks import mask_logits
from rltrain.agents.parts.offline import Shuffled
from rltrain.cli import main
from rltrain.data.dataset import Dataset
from rltrain.data.view import AgentView
from rltrain.data.writer import DatasetWriter
from rltrain.errors import CheckpointError, ConfigError, DatasetError
from rltrain.evaluation.limits import Limits
from rltrain.recording.recorder import record
from rltrain.recording.rounds import Contributor, record_rounds
from rltrain.runs.folder import RunFolder

CARTPOLE = "rltrain/CartPole-v1"
OBS = spaces.Box(-1.0, 1.0, (4,), np.float32)


def test_losses_are_those_computed_by_hand() -> None:
    choice = make_distribution(spaces.Discrete(2, start=5))
    logits = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4 and 3/4
    raw = choice.from_env(torch.tensor([6]))
    right, wrong = -math.log(0.75), -math.log(0.25)
    assert cloning_loss(choice, logits, raw).item() == pytest.approx(right)
    assert cloning_loss(choice, logits, raw, 0.2).item() == pytest.approx(0.8 * right + 0.2 * (right + wrong) / 2)
    assert agreement(choice, logits, raw).item() == 1.0

    masked = make_distribution(spaces.Discrete(3))
    params = mask_logits(torch.tensor([[0.0, 9.0, math.log(3.0)]]), {"action_mask": torch.tensor([[1, 0, 1]])})
    assert cloning_loss(masked, params, torch.tensor([2]), 0.2).item() == pytest.approx(0.9 * right + 0.1 * wrong)

    several = make_distribution(spaces.MultiDiscrete([2, 2]))
    both = cloning_loss(several, logits.repeat(1, 2), torch.tensor([[1, 0]]), 0.2).item()
    assert both == pytest.approx(right + wrong, rel=1e-6)  # the smoothing of one takes off what that of the other adds
    assert agreement(several, logits.repeat(1, 2), torch.tensor([[1, 0]])).item() == 0.5

    switches = make_distribution(spaces.MultiBinary(2))
    odds = torch.tensor([[math.log(3.0), 0.0]])  # chances of a 1: 3/4 and 1/2
    on_off = torch.tensor([[1, 0]], dtype=torch.int8)
    assert cloning_loss(switches, odds, on_off).item() == pytest.approx(right + math.log(2.0))
    assert cloning_loss(switches, odds, on_off, 0.2).item() == pytest.approx(0.9 * right + 0.1 * wrong + math.log(2.0))

    numbers = make_distribution(spaces.Box(-1, 1, (2,)), log_std_init=math.log(0.5))
    mean, taken = torch.tensor([[0.5, 0.0]]), torch.tensor([[1.0, 0.25]])
    by_hand = sum(0.5 * (d / 0.5) ** 2 + math.log(0.5) + 0.5 * math.log(2 * math.pi) for d in (0.5, 0.25))
    assert cloning_loss(numbers, mean, taken).item() == pytest.approx(by_hand)
    assert agreement(numbers, mean, taken).item() == pytest.approx((0.25 + 0.0625) / 2)


def test_smoothing_is_that_of_torch() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, chosen = torch.randn(50, 7, generator=rng), torch.randint(7, (50,), generator=rng)
    mine = cloning_loss(make_distribution(spaces.Discrete(7)), logits, chosen, 0.13)
    assert torch.allclose(mine, F.cross_entropy(logits, chosen, label_smoothing=0.13, reduction="none"), atol=1e-6)


def dataset_of(
    path: Path,
    action_space: spaces.Space,
    act: Callable[[np.ndarray], np.ndarray],
    *,
    episodes: int = 40,
    masks: Callable[[np.ndarray], np.ndarray] | None = None,
    **options: Any,
) -> Dataset:
    """Episodes of ten steps at random places, in which a rule acts."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (10 * episodes, 4)).astype(np.float32)
    ends = np.arange(10 * episodes) % 10 == 9
    columns = {"obs": obs, "action": act(obs), "reward": np.ones(len(obs), np.float32), "terminated": ends}
    columns["truncated"] = np.zeros(len(obs), bool)
    finals, space = {"obs": obs[:episodes]}, OBS
    if masks is not None:
        mask = masks(obs)
        columns |= {"obs.observation": columns.pop("obs"), "obs.action_mask": mask}
        finals = {"obs.observation": obs[:episodes], "obs.action_mask": mask[:episodes]}
        space = spaces.Dict({"observation": OBS, "action_mask": spaces.MultiBinary(mask.shape[1])})
    with DatasetWriter(path, space, action_space, **options) as writer:
        writer.add(columns, [10] * episodes, finals)
    return Dataset.open(path)


def make(dataset: Dataset, seed: int = 0, **options: Any) -> BC:
    agent = BC(dataset.observation_space, dataset.action_space, 1, BCConfig(**options), seed=seed)
    agent.check()
    agent.use_data(dataset)
    return agent


KINDS: dict[str, tuple[spaces.Space, Callable[[np.ndarray], np.ndarray]]] = {
    "choice": (spaces.Discrete(3, start=2), lambda x: 2 + (x[:, 0] > -0.3) + (x[:, 0] > 0.3)),
    "choices": (spaces.MultiDiscrete([2, 3]), lambda x: np.stack([x[:, 0] > 0, 2 * (x[:, 1] > 0)], 1).astype(np.int64)),
    "switches": (spaces.MultiBinary(3), lambda x: (x[:, :3] > 0).astype(np.int8)),
    "numbers": (spaces.Box(-2, 2, (2,), np.float32), lambda x: np.stack([x[:, 0] - x[:, 1], 0.5 * x[:, 2]], 1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_action_is_cloned(tmp_path: Path, kind: str) -> None:
    space, act = KINDS[kind]
    agent = make(dataset_of(tmp_path / "set", space, act), learning_rate=1e-2, batch_size=64)
    first = agent.validate()
    for _ in range(30):
        agent.learn()
    last = agent.validate()
    assert last["val/loss"] < first["val/loss"]
    obs = np.random.default_rng(1).uniform(-1, 1, (500, 4)).astype(np.float32)
    taken = agent.predict(torch.from_numpy(obs)).action.numpy()
    assert all(action in space for action in taken[:50])
    if kind == "numbers":
        assert np.abs(taken - act(obs)).mean() < 0.06
        assert last["val/mean_squared_error"] < 0.01
    else:
        assert (taken == act(obs)).mean() > 0.93
        assert last["val/accuracy"] > 0.9


def test_a_forbidden_action_is_never_taken_and_never_learned_from(tmp_path: Path) -> None:
    def act(obs: np.ndarray) -> np.ndarray:
        return np.where(obs[:, 0] > 0, 2, 0)

    def masks(obs: np.ndarray) -> np.ndarray:
        mask = np.ones((len(obs), 3), np.int8)
        mask[:, 1] = obs[:, 1] > 0
        return mask

    dataset = dataset_of(tmp_path / "set", spaces.Discrete(3), act, masks=masks)
    agent = make(dataset, label_smoothing=0.1)
    for _ in range(5):
        metrics = agent.learn()
    assert float(metrics["train/loss"]) < 2.0  # and not 1e8
    obs = {"observation": torch.rand(200, 4), "action_mask": torch.tensor([[0, 1, 1]]).repeat(200, 1)}
    taken = agent.predict(obs, deterministic=False, rng=torch.Generator().manual_seed(0)).action
    assert set(taken.tolist()) == {1, 2}

    def wrong(obs: np.ndarray) -> np.ndarray:
        mask = masks(obs)
        mask[7] = [0, 1, 0]
        return mask

    with pytest.raises(DatasetError, match=r"forbids the action .* in 1 steps, first in episode 0, step 7"):
        make(dataset_of(tmp_path / "wrong", spaces.Discrete(3), act, masks=wrong))


def test_learning_is_that_of_a_plain_loop_in_float64(tmp_path: Path) -> None:
    space, act = KINDS["choice"]
    dataset = dataset_of(tmp_path / "set", space, act)
    options: dict[str, Any] = {
        "weight_decay": 0.1,
        "label_smoothing": 0.05,
        "normalize_obs": True,
        "max_grad_norm": 0.3,
    }
    agent = make(dataset, batch_size=50, gradient_steps=3, learning_rate=3e-3, **options)
    net = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3)).double()
    layers = [*agent.actor.get_submodule("pi").children(), agent.actor.get_submodule("action_head")]
    for mine, theirs in zip(net, layers, strict=True):
        mine.load_state_dict(theirs.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, eps=1e-8, weight_decay=0.1)
    steps = agent.batches.rows
    seen = torch.from_numpy(dataset.take("obs", steps)).double()
    mean, deviation = seen.mean(0), seen.var(0, correction=0).add(1e-8).sqrt()
    order = Shuffled(steps, 50, agent.batches.seed)
    losses = []
    for _ in range(30):
        rows = next(order)
        obs = (torch.from_numpy(dataset.take("obs", rows)).double() - mean) / deviation
        loss = F.cross_entropy(net(obs), torch.from_numpy(dataset.take("action", rows)) - 2, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.3)
        optimizer.step()
        losses.append(loss.item())
    mine = [float(agent.learn()["train/loss"]) for _ in range(10)]
    assert mine == pytest.approx(np.array(losses).reshape(10, 3).mean(1).tolist(), rel=1e-3)
    for ours, theirs in zip(layers, net, strict=True):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(a.double(), b, atol=2e-4)


def test_dropout_leaves_out_its_share_while_learning_alone(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "set", *KINDS["choice"])
    agent = make(dataset, dropout=0.5, policy_kwargs={"net_arch": [2000], "activation_fn": "relu"})
    head = agent.actor.get_submodule("action_head")
    head.weight.data.fill_(1.0)
    obs = torch.rand(64, 4)
    whole = agent.actor.params(obs)
    dropped = torch.stack([agent.params(obs) for _ in range(20)])
    assert not torch.equal(dropped[0], dropped[1])
    assert torch.allclose(dropped.mean(0), whole, rtol=0.05)
    deviation = (dropped - whole).std() / whole.mean()
    assert 0.01 < deviation < 0.1  # about sqrt(2 / 2000)
    assert torch.equal(agent.actor.params(obs), whole)


def test_held_out_episodes_are_not_learned_from(tmp_path: Path) -> None:
    space, act = KINDS["choice"]
    dataset = dataset_of(tmp_path / "set", space, act)
    agent = make(dataset, val_fraction=0.25)
    train, held_out = set(agent.batches.rows.tolist()), set(agent.held_out.tolist())
    assert not train & held_out
    assert train | held_out == set(range(400))
    assert len({step // 10 for step in held_out}) == 10
    seen = {int(step) for _ in range(10) for step in next(agent.batches)}
    assert seen == train
    params = agent.actor.params(torch.from_numpy(dataset.take("obs", agent.held_out)))
    chosen = torch.from_numpy(dataset.take("action", agent.held_out)) - 2
    assert agent.validate()["val/loss"] == pytest.approx(F.cross_entropy(params, chosen).item(), rel=1e-5)


def test_minibatches_take_every_row_once_in_a_pass() -> None:
    rows = np.arange(100, 110)
    order = Shuffled(rows, 4, seed=1)
    drawn = np.concatenate([next(order) for _ in range(5)])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == rows.tolist()
    assert drawn[:10].tolist() != drawn[10:].tolist()
    assert order.passes == 2.0
    next(order)
    again = Shuffled(rows, 4, seed=1)
    again.load_state_dict(order.state_dict())
    assert next(order).tolist() == next(again).tolist()
    assert len(next(Shuffled(rows, 25, seed=1))) == 25  # more than there are


def test_what_is_read_from_the_disk_is_what_is_held_in_memory(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "set", *KINDS["choices"], part_bytes=500)
    assert len(dataset.parts) > 5
    held, read = (AgentView(dataset, OBS, dataset.action_space, in_memory=size) for size in (10**9, 0))
    assert held.loaded is not None
    assert read.loaded is None
    steps = np.random.default_rng(0).permutation(400)
    assert torch.equal(held.obs(steps), read.obs(steps))
    assert torch.equal(held.action(steps), read.action(steps))
    assert torch.equal(held.next_obs(np.array([3])), held.obs(np.array([4])))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"label_smoothing": 0.1}, "label_smoothing is for choices"),
        ({"patience": 1, "val_fraction": 0.0}, "patience needs"),
        ({"val_by": "x", "val_fraction": 0.0}, "val_by is for held-out"),
        ({"val_by": "x"}, "no group column 'x'"),
        ({"dropout": 0.1, "policy_kwargs": {"net_arch": []}}, "dropout is for hidden layers"),
    ],
)
def test_an_option_without_effect_is_refused(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        make(dataset_of(tmp_path / "set", *KINDS["numbers"]), **options)


def expert(path: Path, episodes: int = 30) -> Dataset:
    """Episodes of CartPole by a rule that keeps the pole up."""

    def act(obs: Tensor) -> Tensor:
        return (obs @ torch.tensor([0.05, 0.1, 1.0, 0.5]) > 0).long()

    with closing(rltrain.make_vec(CARTPOLE, episodes)) as vec:
        spaces_ = vec.single_observation_space, vec.single_action_space
        environment = {"id": CARTPOLE, "options": {}}
        with DatasetWriter(path, *spaces_, policies=[{"name": "rule"}], environment=environment) as writer:
            who = [Contributor(lambda *_: act, episodes, {"name": "rule"})]
            record_rounds(vec, who, writer, seed=0, limits=Limits(seconds=None))
    return Dataset.open(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset = expert(tmp_path_factory.mktemp("data") / "expert")
    assert dataset.episodes.returns.mean() > 480
    return dataset


TRAIN: dict[str, Any] = {"device": "cpu", "num_threads": 1, "trackers": ["csv"], "progress": False}


@pytest.mark.parametrize("seed", range(5))
def test_a_clone_of_a_good_player_plays_well(tmp_path: Path, good: Dataset, seed: int) -> None:
    options = {**TRAIN, "agent": {"learning_rate": 3e-3}, "n_eval_episodes": 20}
    result = rltrain.train(
        "bc", CARTPOLE, data=good.path, total_timesteps=40_000, run_dir=tmp_path, seed=seed, **options
    )
    assert result.evaluation is not None
    assert result.evaluation.mean_reward >= 475
    assert rltrain.load(result.run_dir).predict(np.zeros(4, np.float32))[0] in (0, 1)


def policy_of(run: Path) -> dict[str, Tensor]:
    return dict(rltrain.load(run).agent.actor.state_dict())


def test_a_run_goes_on_bit_for_bit(tmp_path: Path, good: Dataset) -> None:
    agent = {"dropout": 0.1, "val_freq": 2, "gradient_steps": 4, "normalize_obs": True}
    options = {**TRAIN, "data": str(good.path), "run_dir": tmp_path, "agent": agent, "n_eval_episodes": 1}
    whole = rltrain.train("bc", CARTPOLE, total_timesteps=20_480, **options).run_dir
    half = rltrain.train("bc", CARTPOLE, total_timesteps=10_240, **options).run_dir
    rltrain.resume(half, total_timesteps=20_480, progress=False)
    first, second = policy_of(whole), policy_of(half)
    assert all(torch.equal(first[name], second[name]) for name in first)
    lineage = RunFolder.open(half)[0].metadata()["dataset"]
    assert lineage["checksum"] == good.checksum


def test_it_stops_where_the_validation_loss_falls_no_more_and_keeps_the_best(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dataset = dataset_of(tmp_path / "set", spaces.Discrete(2), lambda x: rng.integers(2, size=len(x)))  # noise
    agent = make(dataset, patience=3, val_freq=1, learning_rate=1e-2)
    losses: list[float] = []
    while not agent.finished:
        losses.append(float(agent.learn()["val/loss"]))
    assert len(losses) == losses.index(min(losses)) + 4
    agent.conclude()
    assert agent.validate()["val/loss"] == min(losses)


def test_the_command_line(tmp_path: Path, good: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    short = [
        "--total-timesteps",
        "8192",
        "--run-dir",
        str(tmp_path / "runs"),
        "--n-eval-episodes",
        "2",
        "--no-progress",
    ]
    words = ["train", "bc", CARTPOLE, *short]
    assert (
        main([*words, "--data", str(good.path), "--agent.patience", "1", "--agent.val-freq", "1", "--device", "cpu"])
        == 0
    )
    output = capsys.readouterr().out
    assert "trained to the end" in output or "stopped early" in output
    run = tmp_path / "runs" / "rltrain-CartPole-v1" / "bc_1"
    assert main(["train", "bc", *short, "--data", str(good.path), "--device", "cpu"]) == 0  # in what it was recorded in
    assert "val/loss" in (run / "progress.csv").read_text().splitlines()[0]
    for wrong, what in (
        (words, "learns from a dataset"),
        ([*words, "--data", str(tmp_path)], "There is no dataset in"),
        ([*words, "--data", str(good.path), "--stop-at-reward", "5"], "no episodes in training"),
        ([*words, "--data", str(good.path), "--num-seeds", "2"], ""),
        (["train", "ppo", CARTPOLE, "--data", str(good.path), *short], "learns from environments"),
        (["train", "bc", "rltrain/Acrobot-v1", "--data", str(good.path), *short], "recorded in"),
    ):
        assert main(wrong) in (2, 4)
        assert what in capsys.readouterr().err
    assert sorted(path.name for path in run.parent.iterdir()) == ["bc_1", "bc_2"]


def test_a_changed_dataset_is_not_gone_on_with_and_its_runs_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = expert(tmp_path / "few", 4)
    with DatasetWriter(tmp_path / "set", source.observation_space, source.action_space) as writer:
        for number in range(4):
            episode, length = source.episode(number), int(source.episodes.length[number])
            columns = {name: column[:length] for name, column in episode.items()}
            writer.add(columns, [length], {"obs": episode["obs"][-1:]}, groups={"user": [f"u{number % 2}"]})
    options = {**TRAIN, "agent": {"val_fraction": 0.5, "val_by": "user"}, "n_eval_episodes": 0}
    run = rltrain.train(
        "bc", CARTPOLE, data=tmp_path / "set", total_timesteps=4096, run_dir=tmp_path / "runs", **options
    ).run_dir
    assert main(["data", "delete", str(tmp_path / "set"), "--where", "user=u1", "--runs", str(tmp_path / "runs")]) == 0
    assert f"run        {run} was trained on it" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="another version"):
        rltrain.resume(run, total_timesteps=8192, progress=False)


def test_the_options_of_a_recording_are_those_of_training(tmp_path: Path) -> None:
    made = {"g": 9.0, "max_episode_steps": 20}
    record("rltrain/Pendulum-v1", tmp_path / "set", episodes=6, **made)
    options: dict[str, Any] = {**TRAIN, "agent": {"val_fraction": 0.2}, "n_eval_episodes": 1, "data": tmp_path / "set"}
    result = rltrain.train("bc", "rltrain/Pendulum-v1", total_timesteps=4096, run_dir=tmp_path / "runs", **options)
    config = RunFolder.open(result.run_dir)[0].config()
    assert config.env.kwargs == {"g": 9.0}
    assert config.env.max_episode_steps == 20
    assert config.env.rescale_action is False  # the actions in the data go from -2 to 2
    with pytest.raises(DatasetError, match="The actions of") as error:
        rltrain.train(
            "bc", "rltrain/Pendulum-v1", env_options={"rescale_action": True}, total_timesteps=4096, **options
        )
    assert "--env.rescale-action" in error.value.fix
