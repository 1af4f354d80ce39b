"""A step captured by ``torch.compile``, or recorded to be compiled, equals the environment's own step.

That is not a matter of course: Dynamo silently takes a tensor never to be equal to a member of an enumeration, for one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rltrain.make import make_vec
from rltrain.registry import env_specs
from rltrain.spaces import random_actions
from rltrain.tree import leaves

IDS = [env_id for env_id in env_specs() if env_id.startswith("rltrain/")]
N, STEPS = 16, 40


def played(env_id: str, compiled: bool = False, **options: Any) -> list[list[Any]]:
    """All that is seen of some steps with random actions."""
    torch.manual_seed(0)
    vec: Any = make_vec(env_id, N)
    vec.reset(None)  # what is drawn comes from torch's generator, as it does in what is compiled
    if compiled:
        vec.compile(**options)
    rng, seen = torch.Generator().manual_seed(1), []
    for _ in range(STEPS):
        step = vec.step(random_actions(vec.single_action_space, N, vec.device, rng))
        seen.append([x.clone() for x in (*leaves(step.obs), *leaves(step.final_obs), step.reward, step.terminated)])
    torch.compiler.reset()
    return seen


@pytest.mark.parametrize("env_id", IDS)
def test_compiled_is_eager(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rltrain.traced.lowered", lambda graph, inputs: lambda given: graph(*given))
    sides = played(env_id), played(env_id, True, backend="eager"), played(env_id, True)
    for t, (eager, captured, recorded) in enumerate(zip(*sides, strict=True)):
        for wanted, mine, other in zip(eager, captured, recorded, strict=True):
            assert torch.equal(mine, wanted), t
            assert torch.equal(other, wanted), t
