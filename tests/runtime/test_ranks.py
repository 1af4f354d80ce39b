"""Ranks together train what one process would train alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from bits import as_bits
from pydantic import Field
from safetensors.torch import load_file, save_file
from several import PATIENCE, Several, command
from test_resume import CARTPOLE, OPTIONS, OTHERS, PENDULUM, assert_same_state, flags, scalars
from torch import Tensor

import rltrain
import rltrain.training.setup
import rltrain.vec
from rltrain.config import AgentConfig, CountedOverRanks, DividedAmongRanks
from rltrain.distributed.group import Group, joined
from rltrain.distributed.ranks import ALONE, Ranks
from rltrain.env import TensorEnv
from rltrain.errors import CheckpointError, ConfigError
from rltrain.make import make_vec
from rltrain.normalize import RunningMoments, across_ranks
from rltrain.registry import agent_class, register_agent
from rltrain.runs.checkpoint import load_training
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints, step_of
from rltrain.runs.verify import find_fault
from rltrain.settings import build_config
from rltrain.training.metrics import EpisodeStats, MetricMeans, fetch
from rltrain.training.request import RunRequest
from rltrain.training.setup import Setup, share_of
from rltrain.tree import tree_map
from rltrain.vec import VecEnv, VecStep


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Whatever becomes of a test."""
    yield
    for process in multiprocessing.active_children():
        process.kill()


# One update, and the next ones, of two ranks are those of one process with twice the environments

N, T, BATCH, ITERATIONS = 8, 24, 40, 4
PPO: dict[str, Any] = {
    "learning_rate": 3e-3,
    "n_steps": T,
    "batch_size": BATCH,  # leaves a short last minibatch
    "n_epochs": 3,
    "clip_range_vf": 0.2,
    "ent_coef": 0.01,
    "target_kl": 0.004,  # is passed in some of the updates
    "normalize_obs": True,
    "normalize_reward": True,
}
PQN = {"n_steps": T, "batch_size": BATCH, "n_epochs": 2, "normalize_obs": True, "learning_rate": 3e-3}
TOGETHER = {"ppo": PPO, "pqn": PQN}


def own_rows(ranks: Ranks, whole: Tensor, dim: int = 0) -> Tensor:
    """A rank's share of what is drawn for all environments."""
    return whole.chunk(ranks.world_size, dim)[ranks.rank]


def inject(ranks: Ranks, agent: Any, env: VecEnv, patch: pytest.MonkeyPatch) -> None:
    """Start states, noise and minibatches are drawn for all environments, in the same way on every rank."""
    starts, noise, order = (torch.Generator().manual_seed(seed) for seed in range(3))
    tensor_env: TensorEnv[Any] = env.env  # type: ignore[attr-defined]
    reset, randperm = tensor_env.reset, torch.randperm

    def same_starts(n: int, rng: object) -> Any:
        return tree_map(lambda x: own_rows(ranks, x).clone(), reset(n * ranks.world_size, starts))

    def same_minibatches(rows: int, **options: Any) -> Tensor:
        drawn = randperm(T * N // 2, generator=order)  # of each half of the environments
        if ranks.world_size == 2:
            return drawn
        t, n = drawn // (N // 2), drawn % (N // 2)
        halves = (t * N + half * (N // 2) + n for half in range(2))
        cut = (half.split(BATCH // 2) for half in halves)
        return torch.cat([part for both in zip(*cut, strict=True) for part in both])

    patch.setattr(tensor_env, "reset", same_starts)
    patch.setattr(torch, "randperm", same_minibatches)
    if hasattr(agent, "distribution"):
        drawn = agent.distribution.noise
        patch.setattr(
            agent.distribution,
            "noise",
            lambda shape, device, rng: own_rows(ranks, drawn((T, N), device, noise), 1),
        )
    else:
        actions = agent.policy.n_actions
        agent.explore.shape = (T, N // ranks.world_size, actions + 1)
        rand = torch.rand
        patch.setattr(torch, "rand", lambda shape, **_: own_rows(ranks, rand((T, N, actions + 1), generator=noise), 1))


def learn_together(algo: str, file: Path) -> None:
    """Some iterations; what came out of them goes into a file."""
    torch.set_num_threads(1)
    with joined(1) as ranks, pytest.MonkeyPatch.context() as patch:
        config, _ = build_config(
            algo, PENDULUM if algo == "ppo" else CARTPOLE, {"num_envs": N, "agent": TOGETHER[algo]}
        )
        num_envs, settings = share_of(config, ranks)
        env = make_vec(config.env.id, num_envs, max_episode_steps=10)
        spaces = env.single_observation_space, env.single_action_space
        agent: Any = agent_class(algo)(*spaces, num_envs, settings, seed=ranks.rank)
        across_ranks(agent, ranks.mean, ranks.world_size)
        ranks.broadcast(agent.state_dict().values())
        inject(ranks, agent, env, patch)
        obs, seen = env.reset(0), {}
        for iteration in range(ITERATIONS):
            for _ in range(T):
                out = agent.act(obs)
                step = env.step(out.action)
                agent.record(out, step)
                obs = step.obs
            metrics = {tag: value for tag, value in agent.learn().items() if isinstance(value, Tensor)}
            seen |= {f"{tag} {iteration}": ranks.mean(value) for tag, value in metrics.items()}
            seen |= {f"steps {iteration}": agent.optimizer.state_dict()["step"].clone()}
            seen |= {f"{name} {iteration}": value.clone() for name, value in agent.state_dict().items()}
        save_file(seen, f"{file}{ranks.rank}")


@pytest.mark.parametrize("algo", TOGETHER)
def test_two_ranks_learn_what_one_process_with_all_environments_does(algo: str, tmp_path: Path) -> None:
    assert Several(learn_together, algo, tmp_path / "rank").codes() == [0, 0]
    before = torch.get_num_threads()
    learn_together(algo, tmp_path / "alone")
    torch.set_num_threads(before)
    first, second, alone = (load_file(tmp_path / name) for name in ("rank0", "rank1", "alone0"))
    assert first.keys() == second.keys() == alone.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        if "explained_variance" not in name:  # a mean of two is not that of all
            torch.testing.assert_close(
                value, alone[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )
    steps = [int(alone[f"steps {iteration}"]) for iteration in range(ITERATIONS)]
    most = PPO["n_epochs"] * -(-T * N // BATCH)
    taken = [after - before for before, after in zip([0, *steps], steps, strict=False)]
    if algo == "ppo":
        assert min(taken) < most  # target_kl, decided on the mean
        assert any(value > 1e-3 for name, value in alone.items() if "approx_kl" in name)


# Whole runs

SHORT = {"total_timesteps": 3_072, "save_freq": 500, "keep_checkpoints": 20, "eval_freq": 1_500, "n_eval_episodes": 2}


def env_of(algo: str) -> str:
    """One whose actions it can take."""
    return PENDULUM if algo == "sac" else CARTPOLE


def words_for(algo: str, run_dir: Path, **changes: Any) -> list[str]:
    """A command line that trains for a short while."""
    return ["train", algo, env_of(algo), *flags({**OPTIONS, **SHORT, "run_dir": run_dir, **changes}), "--no-progress"]


def train(run_dir: Path, algo: str = "ppo", **changes: Any) -> tuple[Several, Path]:
    """Starts two ranks; gives them and their run folder."""
    run_dir.mkdir(exist_ok=True)
    ranks = Several(command, words_for(algo, run_dir, **changes), run_dir / "output")
    return ranks, run_dir / env_of(algo).replace("/", "-") / f"{algo}_1"


def outputs(run_dir: Path) -> list[str]:
    """What each rank has printed."""
    return [(run_dir / f"output{rank}").read_text() for rank in range(2)]


def until(ranks: Several, true: Any) -> None:
    """Waits while all of them run."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert all(rank.is_alive() for rank in ranks.ranks)
        assert time.monotonic() < deadline
        time.sleep(0.002)


def state_of(run: Path, rank: int) -> dict[str, Any]:
    """What a rank remembered last, but for the time it took."""
    return as_bits(load_training(list_checkpoints(run / "checkpoints")[-1], rank))


@pytest.mark.parametrize("name", ["ppo", "rainbow", "pqn", "sac"])
def test_a_signal_to_one_rank_stops_all_and_a_resume_is_exact(name: str, tmp_path: Path) -> None:
    algo, agent = {"ppo": ("ppo", OPTIONS["agent"]), **OTHERS}[name]
    ranks, straight = train(tmp_path / "straight", algo, agent=agent)
    assert ranks.codes() == [0, 0], outputs(tmp_path / "straight")
    ranks, run = train(tmp_path / "stopped", algo, agent=agent)
    until(ranks, lambda: list_checkpoints(run / "checkpoints"))
    os.kill(ranks.ranks[1].pid or 0, signal.SIGTERM)
    assert ranks.codes() == [128 + signal.SIGTERM] * 2
    folder = RunFolder(run)
    assert folder.metadata()["status"] == "interrupted"
    assert folder.metadata()["steps"] == step_of(list_checkpoints(run / "checkpoints")[-1]) < SHORT["total_timesteps"]
    resumed = Several(command, ["resume", str(run), "--no-progress"], tmp_path / "stopped" / "output")
    assert resumed.codes() == [0, 0], outputs(tmp_path / "stopped")
    assert "Not bit for bit" not in outputs(tmp_path / "stopped")[0]

    assert folder.metadata()["mode"]["ranks"] == 2
    assert_same_state(run, straight)
    state, expected = state_of(run, 1), state_of(straight, 1)
    assert [key for key in expected if state[key] != expected[key]] == []
    assert scalars(run) == scalars(straight)
    first = state_of(run, 0)
    optimizer = "critic_optimizer" if algo == "sac" else "optimizer"
    for shared in (f"agent.{optimizer}.exp_avg", "agent.n_updates", "trainer.global_step", "trainer.best_step"):
        assert state[shared] == first[shared], shared
    for own in ("agent.rng", "env.rng", "obs.obs", "generators.torch"):
        assert state[own] != first[own], own
    assert not outputs(tmp_path / "straight")[1]  # the first rank alone prints


def test_a_checkpoint_is_damaged_if_the_part_of_one_rank_is(tmp_path: Path) -> None:
    ranks, run = train(tmp_path, total_timesteps=512, n_eval_episodes=0, eval_freq=0)
    assert ranks.codes() == [0, 0]
    *_, last = list_checkpoints(run / "checkpoints")
    assert find_fault(last) is None
    (last / "rank_1.safetensors").write_bytes(b"")
    assert "rank_1.safetensors" in str(find_fault(last))
    (last / "rank_1.safetensors").unlink()
    assert "rank_1.safetensors is missing" in str(find_fault(last))


def fails_on_one(words: list[str], output: Path) -> None:
    """A command line whose environments fail on the second rank."""
    if os.environ["RANK"] == "1":

        def step(self: Any, action: Tensor) -> VecStep:
            raise ZeroDivisionError("as was asked for")

        rltrain.vec.TensorVecEnv.step = step  # type: ignore[method-assign]
    command(words, output)


def does_not_reduce(words: list[str], output: Path) -> None:
    """A command line whose agent keeps its gradients to itself."""
    rltrain.training.setup.across_ranks = lambda *_: None  # type: ignore[assignment]
    command(words, output)


def test_an_error_on_one_rank_ends_all_and_is_said_once(tmp_path: Path) -> None:
    ranks = Several(fails_on_one, words_for("ppo", tmp_path), tmp_path / "output")
    assert ranks.codes() == [3, 3]
    first, second = outputs(tmp_path)
    assert "error" not in first
    assert second.splitlines()[0] == "error: ZeroDivisionError: as was asked for"
    metadata = RunFolder(tmp_path / "rltrain-CartPole-v1" / "ppo_1").metadata()
    assert metadata["status"] == "failed"
    assert "Rank 1 failed: ZeroDivisionError: as was asked for" in metadata["error"]


def test_ranks_that_drift_apart_are_found_out(tmp_path: Path) -> None:
    ranks = Several(does_not_reduce, words_for("ppo", tmp_path), tmp_path / "output")
    assert ranks.codes() == [3, 3]
    said = "".join(outputs(tmp_path))
    assert said.count("error: Ranks have come to different policies after 512 steps.") == 1
    assert "self.reduce" in said


def test_what_all_ranks_find_wrong_is_said_once_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    words = words_for("ppo", tmp_path / "runs", agent={**OPTIONS["agent"], "batch_size": 63})
    assert Several(command, words, tmp_path / "output").codes() == [2, 2]
    said = "".join(outputs(tmp_path))
    assert said.count("error: batch_size=63 cannot be divided equally among 2 ranks.") == 1
    assert not list((tmp_path / "runs").iterdir())


# Shares


class One(Ranks):
    """One of several ranks that nobody talks to; all others have what it has, or nothing."""

    def __init__(self, size: int, index: int = 0, *, others: float = 1.0) -> None:
        self.world_size, self.rank, self.others = size, index, others

    def mean(self, tensor: Tensor) -> Tensor:
        return tensor * (1 + self.others * (self.world_size - 1)) / self.world_size


@pytest.mark.parametrize(
    ("changes", "size", "cause", "fix"),
    [
        ({"num_envs": 9}, 2, "num_envs=9 cannot be divided equally among 2 ranks", "--num-envs"),
        ({"agent": {"batch_size": 100}}, 8, "batch_size=100 cannot be divided", "multiple of 8: --agent.batch-size"),
        ({"num_envs": 4}, 5, "There are 5 ranks for num_envs=4", "Start fewer"),
    ],
)
def test_what_cannot_be_shared_is_refused(changes: dict[str, Any], size: int, cause: str, fix: str) -> None:
    config, _ = build_config("ppo", CARTPOLE, {"num_envs": 8, **changes})
    with pytest.raises(ConfigError) as caught:
        share_of(config, One(size))
    assert cause in caught.value.cause
    assert fix in caught.value.fix


def test_other_loops_than_ours_train_alone() -> None:
    config, _ = build_config("sb3/ppo", CARTPOLE, {"num_envs": 8})
    with pytest.raises(ConfigError, match="'sb3/ppo' trains in one process alone, and there are 2"):
        Setup.build(RunRequest(config), One(2))


def test_sizes_count_over_all_ranks() -> None:
    sizes = {"batch_size": 32, "buffer_size": 1_001, "learning_starts": 0, "target_update_interval": 2}
    config, _ = build_config("dqn", CARTPOLE, {"num_envs": 8, "agent": sizes})
    assert share_of(config, ALONE) == (8, config.agent)
    num_envs, agent = share_of(config, One(4))
    assert num_envs == 2
    shares = {name: getattr(agent, name) for name in sizes}
    assert shares == {"batch_size": 8, "buffer_size": 250, "learning_starts": 0, "target_update_interval": 1}
    assert agent.model_dump(exclude=set(sizes)) == config.agent.model_dump(exclude=set(sizes))


class Drawn(AgentConfig):
    """A plugin's, with names that nobody else knows."""

    rows: Annotated[int, Field(ge=1), DividedAmongRanks] = 32
    few: Annotated[int | None, DividedAmongRanks] = None
    remembered: Annotated[int, CountedOverRanks] = 1_001
    waited: Annotated[int, CountedOverRanks] = 3
    never: Annotated[int, CountedOverRanks] = 0
    batch_size: int = 10  # without a mark a name says nothing


def test_what_ranks_share_is_marked_on_the_fields_of_a_config(clean_registries: None) -> None:
    register_agent("drawn", "somewhere:Drawn", Drawn)
    config, _ = build_config("drawn", CARTPOLE, {"num_envs": 8})
    wanted = {"rows": 8, "few": None, "remembered": 250, "waited": 1, "never": 0, "batch_size": 10}
    assert share_of(config, One(4)) == (2, Drawn.model_validate(wanted))
    config, _ = build_config("drawn", CARTPOLE, {"num_envs": 8, "agent": {"few": 6}})
    with pytest.raises(
        ConfigError, match=r"few=6 cannot be divided equally among 4 ranks.*multiple of 4: --agent\.few"
    ):
        share_of(config, One(4))


def test_as_many_gradient_steps_as_all_ranks_took_steps() -> None:
    options = {"gradient_steps": -1, "learning_starts": 0, "train_freq": 2, "batch_size": 8}
    config, _ = build_config("dqn", CARTPOLE, {"num_envs": 8, "agent": options})
    num_envs, settings = share_of(config, One(4))
    env = make_vec(CARTPOLE, num_envs)
    agent: Any = agent_class("dqn")(env.single_observation_space, env.single_action_space, num_envs, settings)
    across_ranks(agent, lambda tensor: tensor, 4)
    obs = env.reset(0)
    for _ in range(2):
        step = env.step((out := agent.act(obs)).action)
        agent.record(out, step)
        obs = step.obs
    agent.learn()
    assert agent.n_updates == int(agent.optimizer.state_dict()["step"]) == 2 * 8


def test_seeds_differ_and_those_of_the_first_are_the_run_s_own() -> None:
    seeds = [One(3, index).seed(7) for index in range(3)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 3


def test_statistics_of_a_part_and_its_others_are_those_of_the_whole() -> None:
    samples = torch.randn(2, 3, 50, 4, generator=torch.Generator().manual_seed(0)) * 3 + 5
    part, whole = RunningMoments((4,)), RunningMoments((4,))
    part.ranks = 3
    for own, *others in samples:
        known = part.mean.clone()  # what each of the others reduces, by hand
        deltas = [other.double().mean(0) - known for other in others]
        said = [
            torch.stack((delta, other.double().var(0, correction=0) + delta.square()))
            for delta, other in zip(deltas, others, strict=True)
        ]
        part.reduce = lambda mine, said=said: torch.stack((mine, *said)).mean(0)
        part.update(own)
        whole.update(torch.cat((own, *others)))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(part.state_dict()[name], value, rtol=1e-12, atol=0)


def test_episodes_of_all_ranks_count_alike() -> None:
    stats = EpisodeStats(10, 2, 2, torch.device("cpu"))
    for returns, lengths in (([1.0, 2.0], [3, 4]), ([5.0, 9.0], [1, 1])):
        ended = torch.tensor([True, returns[0] > 4])
        nothing: Any = None
        never = torch.zeros_like(ended)
        sums = torch.tensor(returns), torch.tensor(lengths)
        stats.note(VecStep(nothing, nothing, ended, never, nothing, *sums, {}))
    stats.merge()
    wanted = {"rollout/ep_rew_mean": 5.0, "rollout/ep_len_mean": pytest.approx(5 / 3)}
    assert fetch(stats.means()) == {**wanted, "rollout/episodes": 3}
    assert fetch(stats.means(One(3))) == {**wanted, "rollout/episodes": 9}
    assert fetch(stats.means(One(3, others=0.0))) == {**wanted, "rollout/episodes": 3}  # a mean of those there are
    metrics = MetricMeans()
    metrics.add({"train/loss": torch.tensor(4.0), "train/learning_rate": 0.5})
    assert fetch(metrics.take(One(4, others=0.0))) == {"train/loss": 1.0, "train/learning_rate": 0.5}


# How many there are


def test_python_cannot_start_ranks_by_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nproc=2 needs 2 processes.*torchrun --nproc-per-node 2"):
        rltrain.train("ppo", CARTPOLE, nproc=2, run_dir=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_another_number_than_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="nproc=2 does not fit the 3 ranks"):
        rltrain.train("ppo", CARTPOLE, nproc=2, run_dir=tmp_path, progress=False)


def test_a_resume_by_another_number_of_ranks_is_refused(tmp_path: Path) -> None:
    options = {**OPTIONS, "total_timesteps": 512, "n_eval_episodes": 0, "run_dir": tmp_path}
    run = rltrain.train("ppo", CARTPOLE, progress=False, **options).run_dir
    metadata = RunFolder(run).metadata()
    assert "ranks" not in metadata["mode"]
    RunFolder(run).update_metadata({"mode": {**metadata["mode"], "ranks": 2}})
    before = (run / "metadata.json").read_text()
    with pytest.raises(CheckpointError, match="was trained by 2 ranks, and here there are 1") as caught:
        rltrain.resume(run, total_timesteps=1_024, progress=False)
    assert "--nproc 2" in caught.value.fix
    assert (run / "metadata.json").read_text() == before
    assert json.loads(before)["status"] == "completed"


def test_ranks_train_on_a_gpu_each_or_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    group = object.__new__(Group)
    group.local_rank, group.local_world_size, group._torch = 1, 2, torch
    assert [group.device(name) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    with pytest.raises(ConfigError, match="2 ranks on this machine would share 'cuda:0'"):
        group.device("cuda:0")
    for name in ("mps", "xpu:1"):
        with pytest.raises(ConfigError, match=f"Ranks cannot train on '{name}'"):
            group.device(name)
