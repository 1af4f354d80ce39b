"""Shapes land where the world coordinates say."""

import math

import pytest
import torch

from rltrain.canvas import Canvas
from rltrain.make import make_env
from rltrain.registry import env_specs
from rltrain.spaces import random_actions


def canvas() -> Canvas:
    return Canvas(80, 40, world=(-2, -1, 2, 1), background="white")  # 20 pixels per unit


def inked(c: Canvas) -> torch.Tensor:
    """(H, W) bool: pixels that are not white."""
    return (c.picture() < 250).any(-1)


def box(c: Canvas) -> tuple[int, int, int, int]:
    """First and last inked column, first and last inked row."""
    rows, columns = torch.where(inked(c))
    return int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())


def test_a_picture_is_bytes_in_rows_and_columns() -> None:
    picture = canvas().picture()
    assert picture.shape == (40, 80, 3)
    assert picture.dtype == torch.uint8
    assert (picture == 255).all()


def test_y_points_up_and_x_to_the_right() -> None:
    c = canvas()
    c.rectangle(1.0, 0.5, 1.5, 0.75, "black")
    assert box(c) == pytest.approx((60, 70, 5, 10), abs=1)


def test_the_world_stays_in_proportion_and_centred() -> None:
    c = Canvas(80, 40, world=(-1, -1, 1, 1), background="white")
    assert c.pixel == pytest.approx(0.05)
    c.circle((0, 0), 0.5, "black")
    assert box(c) == pytest.approx((30, 49, 10, 29), abs=1)


def test_a_circle_has_its_area_in_its_color() -> None:
    c = canvas()
    c.circle((0.5, 0), 0.8, "#102030")
    share = (255 - c.picture()[..., 0].float()).sum() / (255 - 0x10)
    assert float(share) == pytest.approx(math.pi * 16**2, rel=0.02)
    assert c.picture()[20, 50].tolist() == [0x10, 0x20, 0x30]


def test_edges_are_smooth() -> None:
    c = canvas()
    c.circle((0, 0), 0.8, "black")
    assert len(c.picture().unique()) > 5


def test_a_line_is_as_wide_as_asked_and_has_round_ends() -> None:
    c = canvas()
    c.line([(-1, 0), (1, 0)], "black", width=0.4)
    darkness = (255 - c.picture()[..., 0].float()) / 255
    assert float(darkness[:, 40].sum()) == pytest.approx(8, abs=0.7)
    assert float(darkness.sum()) == pytest.approx(8 * 40 + math.pi * 4**2, rel=0.06)


def test_a_polygon_turns_counter_clockwise_about_its_origin() -> None:
    c = canvas()
    c.polygon([(0, -0.1), (1, -0.1), (1, 0.1), (0, 0.1)], "black", at=(0.5, -0.5), angle=math.pi / 2)
    assert box(c) == pytest.approx((48, 52, 10, 30), abs=1)


def test_an_arrow_ends_at_its_tip_and_is_widest_at_its_head() -> None:
    c = canvas()
    c.arrow((-1, 0), (1, 0), "black", width=0.1, head=0.5)
    assert box(c)[1] == pytest.approx(60, abs=1)
    breadth = inked(c).sum(0)
    assert int(breadth[51]) > 2 * int(breadth[30])
    assert int(breadth[58]) < int(breadth[51])


@pytest.mark.parametrize("sweep", [math.pi / 2, -math.pi / 2])
def test_an_arc_arrow_points_the_way_it_turns(sweep: float) -> None:
    c = Canvas(60, 60, world=(-1.5, -1.5, 1.5, 1.5), background="white")
    c.arc((0, 0), 1.0, 0.0, sweep, "black", width=0.06, head=0.4)
    rows, columns = torch.where(inked(c))
    assert (columns >= 28).all()
    upper = rows < 31
    assert (upper if sweep > 0 else ~upper).float().mean() > 0.95
    heavy = columns < 40  # the head is at the end of the sweep: above or below the centre
    assert heavy.sum() > (rows - 30).abs().lt(10).sum() * 0.5


def test_a_see_through_color_is_even_where_parts_overlap() -> None:
    c = canvas()
    c.line([(-1, 0), (0, 0), (1, 0)], "#00000080", width=0.4)
    assert int(c.picture()[20, 30, 0]) == int(c.picture()[20, 40, 0]) == pytest.approx(127, abs=1)


def test_text_is_drawn_where_it_is_anchored() -> None:
    c = canvas()
    c.text((0, 0), "Hill", "black", size=0.6, anchor="lm")
    left, right, top, bottom = box(c)
    assert left == pytest.approx(40, abs=2)
    assert right > 50
    assert 12 < top < bottom < 28


ALIKE = ("rltrain/Probe-ConstantReward-v0", "rltrain/Probe-Autoreset-v0")
"""Where all states are alike after the first step."""


@pytest.mark.parametrize("env_id", env_specs())
def test_every_environment_draws_its_states(env_id: str) -> None:
    """At the same step of their episodes, different states make different pictures: no step counter does that."""
    env = make_env(env_id)
    rng = torch.Generator().manual_seed(0)
    state = env.reset(6, rng)
    for _ in range(5):
        obs = env.full_observe(state)
        mask = obs["action_mask"] if isinstance(obs, dict) and "action_mask" in obs else None
        state, _, _ = env.step(state, random_actions(env.action_space, 6, env.device, rng, mask), rng)
    pictures = [env.render(state, index) for index in range(6)]
    for picture in pictures:
        assert picture.shape == pictures[0].shape
        assert picture.shape[-1] == 3
        assert picture.dtype == torch.uint8
        assert len(picture.unique()) > 10
    if env_id not in ALIKE:
        assert any(not torch.equal(picture, pictures[0]) for picture in pictures)
    assert torch.equal(env.render(state, 0), pictures[0])
