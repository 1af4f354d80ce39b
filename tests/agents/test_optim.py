"""FlatAdam against torch.optim.Adam with clip_grad_norm_."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from rltrain.agents.parts.optim import FlatAdam

LEARNING_RATE = 1e-2


def identity(gradient: Tensor) -> Tensor:
    return gradient


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


@pytest.fixture(autouse=True)
def _own_chance():
    with torch.random.fork_rng():
        yield


def batch(step: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(100 + step)
    return torch.randn(16, 5, generator=rng), 3.0 * torch.randn(16, 3, generator=rng)


def loss_of(model: nn.Module, step: int) -> Tensor:
    inputs, targets = batch(step)
    return (model(inputs) - targets).square().mean()


def values(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def flat_adam(model: nn.Module, max_grad_norm: float | None = 0.5) -> FlatAdam:
    return FlatAdam(model.parameters(), eps=1e-5, max_grad_norm=max_grad_norm)


@pytest.mark.parametrize("max_grad_norm", [None, 0.5, 1e3])
def test_equals_torch(max_grad_norm: float | None) -> None:
    ours, theirs = network(), network()
    optimizer, adam = flat_adam(ours, max_grad_norm), torch.optim.Adam(theirs.parameters(), eps=1e-5)
    for step in range(12):
        learning_rate = LEARNING_RATE / (step + 1)
        norm = optimizer.step(loss_of(ours, step), learning_rate, reduce=identity)
        adam.zero_grad()
        loss_of(theirs, step).backward()
        limit = float("inf") if max_grad_norm is None else max_grad_norm
        wanted = nn.utils.clip_grad_norm_(theirs.parameters(), limit)
        adam.param_groups[0]["lr"] = learning_rate
        adam.step()
        torch.testing.assert_close(norm, wanted, rtol=1e-5, atol=0)
        torch.testing.assert_close(values(ours), values(theirs), rtol=0, atol=1e-6)
    assert (values(ours) - values(network())).abs().max() > 1e-3


def test_parameters_keep_their_values_and_names() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    optimizer = flat_adam(model)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(
        p.untyped_storage().data_ptr() == optimizer.flat.untyped_storage().data_ptr() for p in model.parameters()
    )


def snapshot(model: nn.Module, optimizer: FlatAdam) -> list[Tensor]:
    state = optimizer.state_dict()
    return [values(model), *(state[name].clone() for name in ("exp_avg", "exp_avg_sq", "step"))]


def test_a_skipped_step_never_was() -> None:
    skipping, straight = network(), network()
    first, second = flat_adam(skipping), flat_adam(straight)
    no, yes = torch.zeros(()), torch.ones(())
    for step in range(3):
        first.step(loss_of(skipping, step), LEARNING_RATE, reduce=identity, skip=no)
        second.step(loss_of(straight, step), LEARNING_RATE, reduce=identity)
    before = snapshot(skipping, first)
    for bad in (7, 8):
        first.step(loss_of(skipping, bad), LEARNING_RATE, reduce=identity, skip=yes)
    first.step(loss_of(skipping, 9) * torch.nan, LEARNING_RATE, reduce=identity, skip=yes)
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(skipping, first), strict=True))
    assert int(first.state_dict()["step"]) == 3

    first.step(loss_of(skipping, 3), LEARNING_RATE, reduce=identity)  # no skip given: it steps
    second.step(loss_of(straight, 3), LEARNING_RATE, reduce=identity)
    assert all(torch.equal(a, b) for a, b in zip(snapshot(skipping, first), snapshot(straight, second), strict=True))
    assert not torch.equal(before[0], values(skipping))


def test_a_first_step_can_be_skipped() -> None:
    model = network()
    optimizer = flat_adam(model)
    optimizer.step(loss_of(model, 0), LEARNING_RATE, reduce=identity, skip=torch.ones(()))
    assert torch.equal(values(model), values(network()))
    assert int(optimizer.state_dict()["step"]) == 0


@pytest.mark.parametrize("steps", [0, 3])
def test_goes_on_bit_for_bit_from_its_state(steps: int) -> None:
    model = network()
    optimizer = flat_adam(model)
    for step in range(steps):
        optimizer.step(loss_of(model, step), LEARNING_RATE, reduce=identity)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))

    other = network(seed=1)
    resumed = flat_adam(other)
    resumed.step(loss_of(other, 50), LEARNING_RATE, reduce=identity)  # a history to be replaced
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for step in range(steps, steps + 4):
        optimizer.step(loss_of(model, step), LEARNING_RATE, reduce=identity)
        resumed.step(loss_of(other, step), LEARNING_RATE, reduce=identity)
    assert all(torch.equal(a, b) for a, b in zip(snapshot(model, optimizer), snapshot(other, resumed), strict=True))


@pytest.mark.parametrize("in_place", [False, True])
def test_the_gradient_is_reduced_before_it_is_clipped(in_place: bool) -> None:
    """Two ranks with halves of a batch, averaged, step as one rank with the whole."""
    whole, half = network(), network()
    inputs, targets = batch(0)

    def loss(model: nn.Module, rows: slice) -> Tensor:
        return (model(inputs[rows]) - targets[rows]).square().mean()

    other = network()
    other_optimizer = flat_adam(other)
    loss(other, slice(8, 16)).backward()
    other_gradient = other_optimizer.flat.grad.clone()

    def mean_over_ranks(gradient: Tensor) -> Tensor:
        return gradient.add_(other_gradient).div_(2) if in_place else (gradient + other_gradient) / 2

    norm = flat_adam(half).step(loss(half, slice(0, 8)), LEARNING_RATE, reduce=mean_over_ranks)
    wanted = flat_adam(whole).step(loss(whole, slice(0, 16)), LEARNING_RATE, reduce=identity)
    torch.testing.assert_close(norm, wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(values(half), values(whole), rtol=0, atol=1e-6)


def test_padding_stays_zero() -> None:
    model = network()
    optimizer = flat_adam(model)
    for step in range(3):
        optimizer.step(loss_of(model, step), LEARNING_RATE, reduce=identity)
    used = torch.zeros_like(optimizer.flat, dtype=torch.bool)
    for parameter in model.parameters():
        used[parameter.storage_offset() : parameter.storage_offset() + parameter.numel()] = True
        assert parameter.storage_offset() % 16 == 0
    assert not used.all()
    assert not optimizer.flat.detach()[~used].any()


def test_scaled_steps_are_those_of_groups_with_other_rates() -> None:
    ours, theirs = network(), network()
    optimizer = flat_adam(ours)
    optimizer.scale_steps({0: 0.0, 1: 0.0, 2: 0.1, 3: 2.0})
    first, last = theirs[0], theirs[2]
    first.requires_grad_(False)
    groups = [{"params": [last.weight], "lr": 0.1 * LEARNING_RATE}, {"params": [last.bias], "lr": 2.0 * LEARNING_RATE}]
    adam = torch.optim.Adam(groups, eps=1e-5)
    start = first.weight.clone()
    for step in range(8):
        norm = optimizer.step(loss_of(ours, step), LEARNING_RATE, reduce=identity)
        adam.zero_grad()
        loss_of(theirs, step).backward()
        wanted = nn.utils.clip_grad_norm_(last.parameters(), 0.5)  # what is frozen has no part in the norm
        adam.step()
        torch.testing.assert_close(norm, wanted)
        torch.testing.assert_close(values(ours), values(theirs), rtol=1e-5, atol=1e-6)
    assert torch.equal(ours[0].weight, start)  # exactly


def test_a_frozen_number_keeps_no_memory_of_gradients() -> None:
    model = network()
    optimizer = flat_adam(model)
    optimizer.scale_steps({0: 0.0})
    optimizer.step(loss_of(model, 0), LEARNING_RATE, reduce=identity)
    size = model[0].weight.numel()
    assert not optimizer.state_dict()["exp_avg"][:size].any()
    assert optimizer.state_dict()["exp_avg"][size:].any()
