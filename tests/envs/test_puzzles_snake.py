"""Snake equals its rules in plain Python."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rltrain.envs.grid.snake import Snake, SnakeState
from rltrain.errors import ConfigError
from rltrain.make import make_env, make_vec
from rltrain.tree import tree_map

STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left


def snake_of(state: SnakeState, row: int, size: int) -> deque[tuple[int, int]]:
    """Its squares from tail to head."""
    body = state.body[row]
    length = int(state.length[row])
    assert sorted(body[body > 0].tolist()) == list(range(1, length + 1))
    assert int(body[state.head[row]]) == length
    return deque(divmod(int((body == age).nonzero()[0, 0]), size) for age in range(1, length + 1))


def play(snake: deque, apple: tuple[int, int], action: int, size: int) -> tuple[deque, bool, bool]:
    """One move: the snake after it, and whether it ate and whether it died."""
    head = (snake[-1][0] + STEPS[action][0], snake[-1][1] + STEPS[action][1])
    after = snake.copy()
    if head != apple:
        after.popleft()
    if not (0 <= head[0] < size and 0 <= head[1] < size) or head in after:
        return snake, False, True
    after.append(head)
    return after, head == apple, False


@pytest.mark.parametrize(("size", "steps"), [(4, 200), (8, 150)])
def test_games_by_the_rules(size: int, steps: int) -> None:
    """Mostly the baseline's actions, so that snakes grow long, with random ones between, so that they die."""
    n = 24
    vec = make_vec("rltrain/Snake-v0", n, size=size, apple_reward=2.0, death_reward=-3.0)
    env = vec.env
    assert isinstance(env, Snake)
    vec.reset(0)
    rng = torch.Generator().manual_seed(0)
    seen = {"ate": 0, "died": 0, "won": 0, "grown": 0}
    for _ in range(steps):
        before: SnakeState = vec.state
        noise = torch.rand(n, generator=rng) < 0.02
        action = torch.where(noise, torch.randint(4, (n,), generator=rng), env.baseline(before))
        led_to = env.step(before, action, torch.Generator().manual_seed(1))[0]
        step = vec.step(action)
        for row in range(n):
            apple = divmod(int(before.apple[row]), size)
            snake, ate, died = play(snake_of(before, row, size), apple, int(action[row]), size)
            won = len(snake) == size**2
            assert snake_of(led_to, row, size) == snake
            assert float(step.reward[row]) == 2.0 * ate - 3.0 * died
            assert bool(step.terminated[row]) == (died or won)
            assert bool(step.info["is_success"][row]) == won
            assert int(step.info["length"][row]) == len(snake)
            after = divmod(int(led_to.apple[row]), size)
            assert after not in snake or won
            assert ate or after == apple
            seen["ate"] += ate
            seen["died"] += died
            seen["won"] += won
            seen["grown"] = max(seen["grown"], len(snake))
    assert seen["ate"] > 100
    assert seen["died"] > 5
    assert seen["grown"] > 10
    assert seen["won"] > 0 or size == 8


def test_the_baseline_always_fills_the_board() -> None:
    for size in (4, 6):
        vec = make_vec("rltrain/Snake-v0", 64, size=size)
        vec.reset(0)
        wins = 0
        while wins < 64:
            step = vec.step(vec.env.baseline(vec.state))
            assert torch.equal(step.terminated, step.info["is_success"])
            assert (step.episode_return[step.terminated] == size**2 - 1).all()
            wins += int(step.terminated.sum())


def coil(env: Snake, squares: list[int], apple: int, n: int) -> SnakeState:
    """``n`` times the same snake, its squares from tail to head."""
    body = torch.zeros(n, env.cells, dtype=torch.uint8)
    body[:, squares] = torch.arange(1, len(squares) + 1, dtype=torch.uint8)
    return SnakeState(body, torch.full((n,), squares[-1]), torch.full((n,), len(squares)), torch.full((n,), apple))


def test_apples_lie_on_every_free_square_alike() -> None:
    env = Snake(size=4)
    state = coil(env, [0, 1, 2, 3, 7], 6, 22_000)
    after, reward, _ = env.step(state, torch.full((22_000,), 3), torch.Generator().manual_seed(0))
    assert (reward == 1).all()
    counts = after.apple.bincount(minlength=16)
    free = [4, 5, *range(8, 16)]
    assert counts[[0, 1, 2, 3, 6, 7]].sum() == 0
    assert float(((counts[free] - 2200) ** 2 / 2200).sum()) < 23.6  # 9 degrees of freedom, p = 0.005
    starts = env.reset(32_000, torch.Generator().manual_seed(1))
    assert (starts.apple != starts.head).all()
    pairs = (starts.head * 16 + starts.apple).bincount(minlength=256).view(16, 16)
    off = pairs[~torch.eye(16, dtype=torch.bool)].float()
    assert float(((off - 32_000 / 240) ** 2 / (32_000 / 240)).sum()) < 299  # 239 degrees of freedom, p = 0.005


def test_the_tail_makes_room_and_the_rest_of_the_body_does_not() -> None:
    env = Snake(size=4)
    ring = coil(env, [0, 1, 5, 4], 15, 4)  # the head below its tail
    after, _, terminated = env.step(ring, torch.arange(4), torch.Generator())
    assert terminated.tolist() == [False, True, False, True]  # onto the tail, into the body, free, a wall
    assert after.head.tolist() == [0, 4, 8, 4]
    assert after.body[0].view(4, 4)[:2, :2].tolist() == [[4, 1], [3, 2]]


def test_the_last_apple_wins() -> None:
    env = Snake(size=4)
    path = [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11, 15, 14, 13]
    state = coil(env, path, 12, 1)
    after, reward, terminated = env.step(state, torch.tensor([3]), torch.Generator())
    assert (float(reward), bool(terminated)) == (1.0, True)
    assert bool(env.info(after)["is_success"])
    assert (after.body > 0).all()
    assert env.observe(after)[0, :, :, 0].min() == 255


def test_the_planes() -> None:
    env = Snake(size=4)
    state = coil(env, [0, 1, 5], 10, 2)
    body, order, head, apple = env.observe(state)[1].permute(2, 0, 1).flatten(1)
    assert body.tolist() == [255, 255, 0, 0, 0, 255, *[0] * 10]
    assert order.tolist() == [15, 30, 0, 0, 0, 45, *[0] * 10]
    assert head.nonzero().tolist() == [[5]]
    assert apple.nonzero().tolist() == [[10]]
    assert int(head.max()) == int(apple.max()) == 255
    full = make_env("rltrain/Snake-v0", size=14)
    assert isinstance(full, Snake)
    long = coil(full, list(range(196)), 0, 1)
    assert full.observe(replace(long, apple=long.head))[0, -1, -1].tolist() == [255, 196, 255, 255]


def test_sizes_without_a_cycle_are_refused() -> None:
    for size in (2, 5, 16):
        with pytest.raises(ConfigError, match=f"size={size}"):
            Snake(size=size)


def test_longer_than_random() -> None:
    vec = make_vec("rltrain/Snake-v0", 64)
    vec.reset(0)
    rng = torch.Generator().manual_seed(0)
    best: Tensor = torch.zeros(())
    for _ in range(200):
        best = torch.maximum(best, vec.step(torch.randint(4, (64,), generator=rng)).info["length"].max())
    vec.reset(0)
    for _ in range(200):
        step = vec.step(vec.env.baseline(vec.state))
    assert int(step.info["length"].min()) > int(best)
    assert tree_map(torch.isfinite, step.obs).all()  # type: ignore[union-attr]
