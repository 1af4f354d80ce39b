"""Transitions of a dataset, held against a loop over its episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from offline_sets import CHOICE, OBS, make_set

from rltrain.agents.parts.transitions import Transitions
from rltrain.data.writer import DatasetWriter
from rltrain.errors import DatasetError

LENGTHS = (5, 3, 8, 1, 6)


@pytest.mark.parametrize("n_steps", [1, 3, 20])
def test_they_are_those_of_a_loop(tmp_path: Path, n_steps: int) -> None:
    dataset = make_set(tmp_path / "set", lengths=LENGTHS, has_final=[False, False, True, True, False])
    data = Transitions(dataset, OBS, CHOICE, torch.device("cpu"), gamma=0.9, n_steps=n_steps)
    wanted = {}
    for number, length in enumerate(LENGTHS):
        episode, first = dataset.episode(number), int(dataset.episodes.start[number])
        for step in range(length):
            end = min(step + n_steps, length)
            known = end < length or bool(dataset.episodes.has_final[number]) or bool(episode["terminated"][-1])
            if not known:
                continue
            total = sum(0.9**i * float(episode["reward"][step + i]) for i in range(end - step))
            over = end == length and bool(episode["terminated"][-1])
            wanted[first + step] = (total, 0.9 ** (end - step), over, episode["obs"][step], episode["obs"][end])
    assert data.steps.tolist() == sorted(wanted)
    order = np.random.default_rng(0).permutation(data.steps)
    batch = data.at(order)
    for row, step in enumerate(order.tolist()):
        total, discount, over, obs, next_obs = wanted[step]
        assert batch.reward[row].item() == pytest.approx(total, abs=1e-5)
        assert batch.discount[row].item() == pytest.approx(discount)
        assert bool(batch.terminated[row]) == over
        assert batch.obs[row].tolist() == obs.tolist()
        if not over:
            assert batch.next_obs[row].tolist() == next_obs.tolist()
    assert batch.action.tolist() == dataset.take("action", order).tolist()
    again = data.at(torch.from_numpy(order))
    assert all(torch.equal(one, other) for one, other in zip(batch, again, strict=True))
    options = {"gamma": 0.9, "n_steps": n_steps, "in_memory": 0}
    read = Transitions(dataset, OBS, CHOICE, torch.device("cpu"), **options)  # from the disk
    assert read.view.loaded is None
    for steps in (order, torch.from_numpy(order)):
        assert all(torch.equal(one, other) for one, other in zip(batch, read.at(steps), strict=True))


def test_data_without_outcomes_or_with_wrong_rewards_are_refused(tmp_path: Path) -> None:
    dataset = make_set(tmp_path / "set", lengths=(1, 1), has_final=[False, False])
    with pytest.raises(DatasetError, match=r"No step of .* has a known outcome"):
        Transitions(dataset, OBS, CHOICE, torch.device("cpu"), gamma=0.9)
    columns = {name: dataset.take(name, np.arange(2)) for name in dataset.columns}
    columns["reward"][1] = np.nan
    with DatasetWriter(tmp_path / "wrong", OBS, CHOICE) as writer:
        writer.add(columns, [2], {"obs": np.zeros((1, 4), np.float32)})
    with pytest.raises(DatasetError, match="rewards that are not finite, first in step 1"):
        Transitions(type(dataset).open(tmp_path / "wrong"), OBS, CHOICE, torch.device("cpu"), gamma=0.9)
