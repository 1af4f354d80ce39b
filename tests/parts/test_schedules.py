"""Schedules as a config field and over time."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from rltrain.schedules import Schedule, ramp, value_at


class Config(BaseModel):
    rate: Schedule


@pytest.mark.parametrize(
    ("text", "read", "values"),
    [
        (0.001, 0.001, (0.001, 0.001, 0.001)),
        (1, 1.0, (1.0, 1.0, 1.0)),
        ("0.5", 0.5, (0.5, 0.5, 0.5)),
        ("3e-4", 3e-4, (3e-4, 3e-4, 3e-4)),
        ("lin_0.001", "lin_0.001", (0.001, 0.00025, 0.0)),
        ("lin_2.5e-4", "lin_2.5e-4", (2.5e-4, 0.625e-4, 0.0)),
        (" lin_1 ", "lin_1", (1.0, 0.25, 0.0)),
    ],
)
def test_reads_numbers_and_linear_schedules(text: object, read: object, values: tuple[float, ...]) -> None:
    schedule = Config(rate=text).rate
    assert schedule == read
    assert type(schedule) is type(read)
    for progress_remaining, value in zip((1.0, 0.25, 0.0), values, strict=True):
        assert value_at(schedule, progress_remaining) == pytest.approx(value)
    assert Config(rate=schedule).rate == schedule


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("fast", "lin_0.001"),
        ("lin_", "lin_0.001"),
        ("lin_fast", "lin_0.001"),
        ("lin_lin_0.1", "lin_0.001"),
        ("exp_0.1", "lin_0.001"),
        ("", "lin_0.001"),
        (True, "lin_0.001"),
        (None, "lin_0.001"),
        ([0.1], "lin_0.001"),
        (-0.1, "greater than 0"),
        (0, "greater than 0"),
        ("lin_-0.1", "greater than 0"),
        ("lin_0", "greater than 0"),
        ("nan", "greater than 0"),
        (float("inf"), "greater than 0"),
        ("lin_inf", "greater than 0"),
    ],
)
def test_refuses_what_is_no_schedule(bad: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Config(rate=bad)


def test_a_ramp_falls_over_the_first_share_and_stays() -> None:
    def along(share: float) -> list[float]:
        return [ramp(1.0, 0.2, share, progress_remaining) for progress_remaining in (1.0, 0.9, 0.75, 0.5, 0.0)]

    assert along(0.5) == pytest.approx([1.0, 0.84, 0.6, 0.2, 0.2])
    assert along(1.0) == pytest.approx([1.0, 0.92, 0.8, 0.6, 0.2])
    assert along(0.0) == [0.2] * 5
    assert ramp(0.4, 1.0, 1.0, 0.25) == pytest.approx(0.85)
