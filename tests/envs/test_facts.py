"""Every environment has a complete description."""

from __future__ import annotations

import inspect

import pytest

from rltrain.describe import arguments_of, describe_env, labelled
from rltrain.env import TensorEnv
from rltrain.make import env_parameters
from rltrain.registry import env_class, env_specs

DOCUMENTATION = """One line.

Observation: (N, 4): x,
    and y.
Reward: 1.
Free text, which belongs to nothing.

Episode end: never

Args:
    first: What it is, over
        two lines.
    second: Short.
    **base: See there.

Raises:
    ConfigError: It is wrong.
"""


def test_labelled_lines_and_arguments_are_read() -> None:
    assert labelled(DOCUMENTATION) == {"Observation": "(N, 4): x, and y.", "Reward": "1.", "Episode end": "never"}
    assert arguments_of(DOCUMENTATION) == {"first": "What it is, over two lines.", "second": "Short."}
    assert labelled("") == arguments_of("") == {}


@pytest.mark.parametrize("env_id", env_specs())
def test_the_docstring_says_all_there_is_to_know(env_id: str) -> None:
    cls, facts = env_class(env_id), describe_env(env_id)
    for label in ("observation", "action", "reward", "episode_end", "source", "description"):
        assert facts.get(label), f"{cls.__name__} does not say its {label}"
    assert (type.__getattribute__(cls, "baseline") is not TensorEnv.baseline) == ("baseline" in facts)
    assert {name for name, parameter in facts["parameters"].items() if not parameter["help"]} == set()
    assert set(arguments_of(inspect.getdoc(cls) or "")) == set(env_parameters(env_id))
