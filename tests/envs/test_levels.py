"""Generated levels are reproducible, and no level of one split is in another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from rltrain.envs.grid.levels import HELD_OUT, SPLITS, fingerprint, level_bank, split_of
from rltrain.envs.grid.maze import maze_levels
from rltrain.envs.grid.sokoban_levels import sokoban_levels
from rltrain.errors import ConfigError
from rltrain.make import make_env, make_vec


def mazes(split: str, num_levels: int = 1000, level_seed: int = 0) -> Tensor:
    maze_levels.cache_clear()
    return maze_levels(11, split, num_levels, level_seed)["board"]


def sokobans(split: str, num_levels: int = 1000, level_seed: int = 0) -> Tensor:
    sokoban_levels.cache_clear()
    return sokoban_levels(9, 2, 5, split, num_levels, level_seed)["board"]


Boards = Callable[..., Tensor]
every_kind = pytest.mark.parametrize("boards", [mazes, sokobans])


def canonical(board: np.ndarray) -> bytes:
    """The same for all rotations and reflections of a board."""
    return min(np.rot90(face, k).tobytes() for face in (board, board.T) for k in range(4))


@every_kind
def test_no_level_is_in_two_splits_or_twice_in_one_even_turned(boards: Boards) -> None:
    sets = [{canonical(board) for board in boards(split).numpy()} for split in SPLITS]
    assert [len(levels) for levels in sets] == [1000, HELD_OUT, HELD_OUT]
    other = {canonical(board) for board in boards("train", level_seed=1).numpy()}
    assert len(other - sets[0]) > 900
    for held_out in sets[1:]:
        assert not held_out & (sets[0] | other)
    assert not sets[1] & sets[2]


@every_kind
def test_a_level_depends_on_its_split_and_index_alone(boards: Boards) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = boards("train")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(boards("train", 50), first[:50])
    assert torch.equal(boards("train", 3000)[:1000], first)
    assert torch.equal(boards("test", 7), boards("test", 800))


@pytest.mark.parametrize(("boards", "digest"), [(mazes, "0ced2cd8d0611570"), (sokobans, "c6621cfcb3d4c044")])
def test_levels_stay_what_they_are_from_version_to_version(boards: Boards, digest: str) -> None:
    shown = b"".join(boards(split, 100)[:100].numpy().tobytes() for split in SPLITS)
    assert hashlib.sha256(shown).hexdigest()[:16] == digest


def test_a_fingerprint_is_that_of_all_turned_boards_and_of_no_other() -> None:
    rng = torch.Generator().manual_seed(0)
    board = torch.randint(16, (200, 7, 7), generator=rng)
    prints = fingerprint(board)
    for face in (board, board.transpose(1, 2)):
        for k in range(4):
            assert torch.equal(fingerprint(torch.rot90(face, k, (1, 2))), prints)
    changed = board.clone()
    changed[:, 3, 1] ^= 1
    everything = torch.cat((prints, fingerprint(changed)))
    assert len(everything.unique()) == 400


def test_half_of_the_levels_are_to_train_on_and_a_quarter_each_held_out() -> None:
    boards = torch.randint(4, (40_000, 6, 6), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    shares = split_of(fingerprint(boards)).bincount(minlength=3) / len(boards)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.25, 0.25]), atol=0.01, rtol=0)


def test_too_few_different_levels_are_an_error() -> None:
    def tiny(n: int, rng: torch.Generator) -> dict[str, Tensor]:
        return {"board": torch.randint(2, (n, 3, 3), generator=rng, dtype=torch.uint8)}  # 102 different ones

    with pytest.raises(ConfigError, match=r"Tiny: the split 'train' has hardly more than \d\d different levels"):
        level_bank("Tiny", tiny, split="train", num_levels=200, level_seed=0, batch=512)
    bank = level_bank("Tiny", tiny, split="train", num_levels=20, level_seed=0, batch=512)
    assert len({canonical(board) for board in bank["board"].numpy()}) == 20


@pytest.mark.parametrize("env_id", ["rltrain/Maze-v0", "rltrain/Sokoban-v0"])
def test_episodes_are_in_all_levels_of_the_split_alike(env_id: str) -> None:
    env = make_env(env_id, num_levels=40)
    state = env.reset(40_000, torch.Generator().manual_seed(0))
    counts = env.info(state)["level"].bincount(minlength=40)
    assert len(counts) == 40
    chi_square = float(((counts - 1000) ** 2 / 1000).sum())
    assert chi_square < 66  # 39 degrees of freedom: exceeded with probability 0.005
    assert make_env(env_id, split="test").num_levels == HELD_OUT  # type: ignore[attr-defined]


@pytest.mark.parametrize("env_id", ["rltrain/Maze-v0", "rltrain/Sokoban-v0"])
def test_splits_look_different(env_id: str) -> None:
    starts = [make_vec(env_id, 64, split=split).reset(0) for split in SPLITS]
    assert not torch.equal(starts[0], starts[1])  # type: ignore[arg-type]
    assert not torch.equal(starts[1], starts[2])  # type: ignore[arg-type]


@pytest.mark.parametrize("env_id", ["rltrain/Maze-v0", "rltrain/Sokoban-v0"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("split", "tset"), ("num_levels", 0), ("num_levels", 1.5), ("level_seed", -1), ("size", 4)],
)
def test_arguments_out_of_range_are_refused(env_id: str, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name}="):
        make_env(env_id, **{name: value})
