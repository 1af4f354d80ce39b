"""What a replay gives back: sums over several steps, and priorities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rltrain.agents.parts.replay import Batch, PrioritizedReplay, Replay
from rltrain.vec import VecStep
from tests.torture.oracles.examples import CPU, Example, apart, ends_of


@dataclass
class Event:
    """A step. Observations are numbers that never come twice."""

    seen: int
    reward: float
    led_to: int
    terminated: bool
    truncated: bool


def played(example: Example, replay: Replay, dtype: torch.dtype) -> list[list[Event]]:
    """Lets a replay record random episodes; those of each environment."""
    rng, n = example.rng(), replay.num_envs
    events: list[list[Event]] = [[] for _ in range(n)]
    number = n
    now = list(range(n))
    for _ in range(example.rows):
        reward = torch.tensor(example.size * rng.normal(size=n), dtype=dtype)
        terminated, truncated = ends_of(example, rng, (n,))
        led_to = list(range(number, number + n))
        first = [number + n + i if terminated[i] or truncated[i] else led_to[i] for i in range(n)]
        number += 2 * n
        rows = zip(now, reward.tolist(), led_to, terminated.tolist(), truncated.tolist(), strict=True)
        for i, row in enumerate(rows):
            events[i].append(Event(*row))
        nothing = torch.zeros(n)
        replay.begin(torch.tensor(now).view(n, 1))
        replay.add(
            torch.tensor(now) % 5,
            VecStep(
                torch.tensor(first).view(n, 1),
                reward,
                terminated,
                truncated,
                torch.tensor(led_to).view(n, 1),
                nothing,
                nothing,
                {},
            ),
        )
        now = first
    return events


def fates(example: Example, events: list[list[Event]], n_steps: int) -> dict[int, tuple[float, float, int, bool]]:
    """Reward, discount, where it led to and whether that was the end, of every step by what was seen in it."""
    told = {}
    for own in events:
        for t, begin in enumerate(own):
            reward, discount = 0.0, 1.0
            for event in own[t : t + n_steps]:
                reward += discount * event.reward
                discount *= example.gamma
                if event.terminated or event.truncated:
                    break
            told[begin.seen] = reward, discount, event.led_to, event.terminated
    return told


def several_steps(example: Example, dtype: torch.dtype) -> float:
    """Rewards of n steps: not beyond an end, nor beyond what is known."""
    n_steps = 1 + example.seed % 5
    capacity = example.columns * (2 + example.seed % 30)  # often less than what was played
    replay = Replay(capacity, example.columns, CPU, gamma=example.gamma, n_steps=n_steps)
    told = fates(example, played(example, replay, dtype), n_steps)
    batch = replay.sample(128, torch.Generator().manual_seed(example.seed))
    return worst_of(batch, told)


def worst_of(batch: Batch, told: dict[int, tuple[float, float, int, bool]]) -> float:
    """How far transitions with a weight are from what was told of them."""
    use = batch.weight > 0
    assert use.any()
    wanted = [told[seen] for seen in batch.obs[use].flatten().tolist()]
    reward, discount, led_to, terminated = zip(*wanted, strict=True)
    assert batch.terminated[use].tolist() == list(terminated)
    goes_on = ~batch.terminated[use]
    assert torch.equal(batch.next_obs[use].flatten()[goes_on], torch.tensor(led_to)[goes_on])
    assert (batch.action[use] == batch.obs[use].flatten() % 5).all()
    return max(apart(batch.reward[use], reward), apart(batch.discount[use], discount))


def priorities(example: Example, dtype: torch.dtype) -> float:
    """Schaul et al. (2016), section 3.3: priorities, which places are drawn, and the weights in the loss."""
    rng, generator = example.rng(), torch.Generator().manual_seed(example.seed)
    alpha, beta, size = example.lambda_, example.gamma, int(rng.integers(1, 33))
    replay = PrioritizedReplay(
        example.columns * example.rows * 2, example.columns, CPU, gamma=example.gamma, alpha=alpha
    )
    told = fates(example, played(example, replay, dtype), 1)
    before = replay.state_dict()["priority"].clone()
    steps = before.nonzero().flatten()
    assert len(steps) == len(told)
    assert (before[steps] == 1).all()
    chosen = steps[torch.from_numpy(rng.permutation(len(steps))[: max(1, len(steps) // 2)])]
    error = torch.tensor(example.size * rng.normal(size=len(chosen)), dtype=dtype)
    replay.update(chosen, error)
    kept = replay.state_dict()["priority"]
    wanted = before.tolist()
    for place, each in zip(chosen.tolist(), error.tolist(), strict=True):
        wanted[place] = (abs(each) + 1e-6) ** alpha
    off = apart(kept, wanted)

    same = torch.Generator()
    same.set_state(generator.get_state())
    batch = replay.sample(size, generator, beta)
    chance = torch.rand(size, dtype=torch.float64, generator=same).tolist()
    sums = np.cumsum(kept.double().numpy())
    places = [int(np.searchsorted(sums, (i + x) / size * sums[-1], side="right")) for i, x in enumerate(chance)]
    assert batch.place.tolist() == places
    drawn = [kept[place].item() / sums[-1] for place in places]
    weights = [(len(steps) * p) ** -beta for p in drawn]
    return max(off, apart(batch.weight, [w / max(weights) for w in weights]), worst_of(batch, told))
