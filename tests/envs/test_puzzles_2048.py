"""2048 equals its rules in plain Python."""

from __future__ import annotations

import pytest
import torch

from rltrain.envs.grid.game2048 import Game2048, Game2048State
from rltrain.make import make_vec
from rltrain.spaces import random_actions

Board = list[int]  # 16 tiles, their values


def slide_left(line: list[int]) -> tuple[list[int], int]:
    """A line after sliding, and the points for it."""
    tiles, out, points = [tile for tile in line if tile], [], 0
    while tiles:
        tile = tiles.pop(0)
        if tiles and tiles[0] == tile < 2**15:
            tile += tiles.pop(0)
            points += tile
        out.append(tile)
    return out + [0] * (4 - len(out)), points


def slide_board(board: Board, action: int) -> tuple[Board, int]:
    """All lines of a board: up, right, down, left."""
    starts, step = {0: (range(0, 4), 4), 1: (range(3, 16, 4), -1), 2: (range(12, 16), -4), 3: (range(0, 16, 4), 1)}[
        action
    ]
    after, total = [0] * 16, 0
    for start in starts:
        places = [start + k * step for k in range(4)]
        line, points = slide_left([board[place] for place in places])
        total += points
        for place, tile in zip(places, line, strict=True):
            after[place] = tile
    return after, total


def tiles(state: Game2048State, row: int) -> Board:
    return [2**k if k else 0 for k in state.cells[row].tolist()]


def held_against_python(env: Game2048, state: Game2048State, action: torch.Tensor, rng: torch.Generator) -> dict:
    """One step of every row; returns what happened how often, and the state after it."""
    after, reward, terminated = env.step(state, action, rng)
    masks = env.action_mask(state).tolist(), env.action_mask(after).tolist()
    seen = {"merged": 0, "illegal": 0, "ended": 0, "fours": 0, "new": 0}
    for row, act in enumerate(action.tolist()):
        board, result = tiles(state, row), tiles(after, row)
        moved, points = slide_board(board, act)
        assert masks[0][row] == [slide_board(board, a)[0] != board for a in range(4)]
        assert float(reward[row]) == points
        if moved == board:
            assert result == board
            seen["illegal"] += 1
        else:
            ((place, tile),) = [(p, t) for p, t in enumerate(result) if t != moved[p]]
            assert moved[place] == 0
            assert tile in (2, 4)
            seen["fours"] += tile == 4
            seen["new"] += 1
        seen["merged"] += points > 0
        assert masks[1][row] == [slide_board(result, a)[0] != result for a in range(4)]
        assert bool(terminated[row]) == (not any(masks[1][row]))
        seen["ended"] += bool(terminated[row])
    return seen


def test_thousands_of_moves_of_games() -> None:
    """Random actions, forbidden ones among them, and the baseline's."""
    n, total = 32, {"merged": 0, "illegal": 0, "ended": 0, "fours": 0, "new": 0}
    vec = make_vec("rltrain/Game2048-v0", n)
    env = vec.env
    assert isinstance(env, Game2048)
    vec.reset(0)
    rng = torch.Generator().manual_seed(0)
    for _ in range(250):
        state = vec.state
        random = torch.randint(4, (n,), generator=rng)
        action = torch.where(torch.arange(n) < n // 2, random, env.baseline(state))
        for name, count in held_against_python(env, state, action, torch.Generator().manual_seed(7)).items():
            total[name] += count
        vec.step(action)
    assert min(total.values()) > 10, total
    assert total["new"] > 5000


def test_boards_of_all_kinds() -> None:
    """Far from those of games, up to the tile 32768, which merges no more."""
    env, rng = Game2048(), torch.Generator().manual_seed(0)
    few = torch.tensor([0, 0, 1, 14, 15, 15], dtype=torch.uint8)
    boards = torch.cat(
        (
            torch.randint(16, (600, 16), generator=rng, dtype=torch.uint8),
            torch.randint(4, (600, 16), generator=rng, dtype=torch.uint8),
            few[torch.randint(6, (600, 16), generator=rng)],
        )
    )
    action = torch.randint(4, (1800,), generator=rng)
    seen = held_against_python(env, Game2048State(boards), action, rng)
    assert min(seen.values()) > 10, seen


@pytest.mark.parametrize(
    ("line", "left", "points"),
    [
        ([2, 2, 2, 2], [4, 4, 0, 0], 8),
        ([2, 2, 2, 0], [4, 2, 0, 0], 4),
        ([4, 2, 2, 0], [4, 4, 0, 0], 4),
        ([2, 0, 0, 2], [4, 0, 0, 0], 4),
        ([0, 8, 0, 4], [8, 4, 0, 0], 0),
        ([16, 16, 32, 0], [32, 32, 0, 0], 32),
        ([2**15, 2**15, 0, 2], [2**15, 2**15, 2, 0], 0),
    ],
)
def test_lines_by_hand(line: list[int], left: list[int], points: int) -> None:
    assert slide_left(line) == (left, points)
    env = Game2048()
    cells = torch.zeros(4, 16, dtype=torch.uint8)
    exponents = torch.tensor([tile.bit_length() - 1 if tile else 0 for tile in line], dtype=torch.uint8)
    places = torch.tensor([[0, 4, 8, 12], [3, 2, 1, 0], [12, 8, 4, 0], [0, 1, 2, 3]])  # front to back, for each action
    cells.scatter_(1, places, exponents.expand(4, 4))
    moved, got = env._move(cells, env._codes(cells), torch.arange(4))
    assert got.tolist() == [points] * 4
    assert [[2**k if k else 0 for k in row] for row in moved.gather(1, places).tolist()] == [left] * 4


def test_new_tiles_are_uniform_and_one_in_ten_is_a_four() -> None:
    env, n = Game2048(), 30_000
    board = torch.tensor([1, 1, 0, 2, 3, 0, 0, 1, 5, 4, 3, 2, 1, 2, 3, 4], dtype=torch.uint8).expand(n, 16)
    after = env.step(Game2048State(board), torch.full((n,), 3), torch.Generator().manual_seed(0))[0].cells
    empty = [2, 3, 6, 7]  # of [2 1 . .][3 1 . .] after sliding to the left
    new = after[:, empty]
    assert ((new > 0).sum(1) == 1).all()
    counts = (new > 0).sum(0)
    assert float(((counts - n / 4) ** 2 / (n / 4)).sum()) < 12.8  # 3 degrees of freedom, p = 0.005
    assert abs(float((new == 2).sum()) / n - 0.1) < 0.006
    starts = env.reset(n, torch.Generator().manual_seed(1)).cells
    assert ((starts > 0).sum(1) == 2).all()
    per_square = (starts > 0).sum(0)
    assert float(((per_square - n / 8) ** 2 / (n / 8)).sum()) < 33
    assert abs(float((starts == 2).sum()) / (2 * n) - 0.1) < 0.005
    fours = Game2048(four_probability=1.0).reset(50, None).cells
    assert set(fours.flatten().tolist()) == {0, 2}


def test_the_end_and_the_goal() -> None:
    env = Game2048(goal=4)
    stuck = torch.tensor([1, 2, 1, 2, 2, 1, 2, 1, 1, 2, 1, 2, 2, 1, 2, 1], dtype=torch.uint8)
    state = Game2048State(torch.stack((stuck, stuck.index_fill(0, torch.tensor([5]), 4))))
    after, reward, terminated = env.step(state, torch.tensor([0, 0]), None)
    assert terminated.all()
    assert (reward == 0).all()
    assert not env.action_mask(after).any()
    assert env.info(after)["largest_tile"].tolist() == [4, 16]
    assert env.info(after)["is_success"].tolist() == [False, True]


def test_the_baseline_scores_more_than_random_moves() -> None:
    scores = []
    for wise in (True, False):
        vec = make_vec("rltrain/Game2048-v0", 24)
        vec.reset(0)
        rng, first, alive = torch.Generator().manual_seed(0), torch.zeros(24), torch.ones(24, dtype=torch.bool)
        while alive.any():
            mask = vec.env.action_mask(vec.state)
            wild = random_actions(vec.single_action_space, 24, vec.device, rng, mask)
            step = vec.step(vec.env.baseline(vec.state) if wise else wild)
            first = torch.where(alive & step.terminated, step.episode_return, first)
            alive &= ~step.terminated
        scores.append(float(first.mean()))
    assert scores[0] > 4000 > 2000 > scores[1] > 700
