"""Encoders, masks and initial weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from rltrain.agents.parts.networks import ImageEncoder, Tanh, _Tanh, make_encoder, mask_logits
from rltrain.agents.ppo.config import PolicyKwargs
from rltrain.agents.ppo.policy import ActorCritic
from rltrain.errors import ConfigError

VECTOR = spaces.Box(-1.0, 1.0, (5,))
HWC = spaces.Box(0, 255, (84, 84, 3), np.uint8)
CHW = spaces.Box(0, 255, (4, 84, 84), np.uint8)
GRID = spaces.Box(0, 1, (10, 10, 6), bool)


def batch_of(space: spaces.Space, n: int = 3):
    """``n`` samples of a space as tensors."""
    space.seed(0)
    if isinstance(space, spaces.Dict):
        return {name: batch_of(part, n) for name, part in space.spaces.items()}
    return torch.from_numpy(np.stack([np.asarray(space.sample()) for _ in range(n)]))


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (VECTOR, 5),
        (spaces.Box(-1.0, 1.0, ()), 1),
        (spaces.Box(-1.0, 1.0, (2, 3)), 6),
        (spaces.Box(-1.0, 1.0, (2,), np.float64), 2),
        (spaces.Box(-5, 5, (3,), np.int64), 3),
        (HWC, 512),
        (CHW, 512),
        (GRID, 128),
        (spaces.Box(0, 1, (10, 10, 10), bool), 128),
        (spaces.Box(0.0, 1.0, (36, 50, 1)), 512),
        (spaces.Box(0.0, 1.0, (2, 2, 1)), 128),
        (spaces.Discrete(4, start=2), 4),
        (spaces.MultiDiscrete([3, 2], start=[1, -1]), 5),
        (spaces.MultiBinary(6), 6),
        (spaces.MultiBinary((2, 3)), 6),
        (spaces.Dict({"a": VECTOR, "b": spaces.Discrete(3), "c": HWC}), 5 + 3 + 512),
        (spaces.Dict({"type": VECTOR, "b.c": spaces.Discrete(3)}), 5 + 3),
        (spaces.Dict({"observation": VECTOR, "action_mask": spaces.MultiBinary(7)}), 5),
    ],
    ids=str,
)
def test_features_have_their_shape(space: spaces.Space, size: int) -> None:
    encoder = make_encoder(space)
    features = encoder(batch_of(space))
    assert encoder.size == size
    assert features.shape == (3, size)
    assert features.dtype == torch.float32


def test_categories_are_one_hot_from_their_start() -> None:
    encoder = make_encoder(spaces.Discrete(3, start=-1))
    assert encoder(torch.tensor([-1, 0, 1])).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    encoder = make_encoder(spaces.MultiDiscrete([3, 2], start=[1, -1]))
    assert encoder(torch.tensor([[1, -1], [3, 0], [2, -1]])).tolist() == [
        [1, 0, 0, 1, 0],
        [0, 0, 1, 0, 1],
        [0, 1, 0, 1, 0],
    ]


def test_flat_features_are_the_numbers() -> None:
    space = spaces.Box(-1.0, 1.0, (2, 3))
    obs = batch_of(space)
    assert torch.equal(make_encoder(space)(obs), obs.flatten(1))


def test_tanh_and_its_gradient() -> None:
    x = torch.cat([torch.linspace(-20, 20, 10_001), torch.tensor([-torch.inf, torch.inf, 0.0, 1e-6])]).requires_grad_()
    ours, theirs = (f(x) for f in (Tanh(), torch.tanh))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-7)
    for gradients in zip(*(torch.autograd.grad(y.sum(), x) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(*gradients, rtol=0, atol=5e-7)
    assert torch.autograd.gradcheck(_Tanh.apply, torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True))


def test_images_can_be_flattened() -> None:
    space = spaces.Dict({"image": GRID, "step": spaces.Discrete(3)})
    obs = batch_of(space)
    features = make_encoder(space, flatten=True)(obs)
    assert features.shape == (3, int(np.prod(GRID.shape)) + 3)
    assert torch.equal(features[:, :-3], obs["image"].flatten(1).float())


def test_channels_first_and_last_see_the_same_picture() -> None:
    first, last = make_encoder(CHW), make_encoder(spaces.Box(0, 255, (84, 84, 4), np.uint8))
    last.load_state_dict(first.state_dict())
    picture = batch_of(CHW)
    torch.testing.assert_close(first(picture), last(picture.permute(0, 2, 3, 1)))


def test_a_cube_is_channels_last() -> None:
    """Where the shape does not tell: Gymnasium's and MinAtar's convention."""
    assert ImageEncoder(spaces.Box(0, 1, (10, 10, 10), bool)).channels_last
    assert not ImageEncoder(spaces.Box(0, 1, (4, 10, 10), bool)).channels_last


@pytest.mark.parametrize(
    ("shape", "channels_last"),
    [((7, 7, 20), True), ((20, 7, 7), False), ((7, 7, 3), True), ((3, 6, 8), False), ((6, 8, 3), True)],
)
def test_equal_sides_are_height_and_width(shape: tuple[int, int, int], channels_last: bool) -> None:
    encoder = ImageEncoder(spaces.Box(0, 1, shape, bool))
    assert encoder.channels_last == channels_last
    assert encoder(torch.zeros(5, *shape, dtype=torch.bool)).shape == (5, 128)


def test_bytes_are_scaled_and_other_pictures_are_not() -> None:
    def first_layer_sees(space: spaces.Box) -> float:
        encoder = make_encoder(space)
        seen = []
        encoder.layers.register_forward_pre_hook(lambda _, args: seen.append(args[0].max().item()))
        encoder(torch.from_numpy(np.broadcast_to(space.high, (1, *space.shape)).copy()))
        return seen[0]

    assert first_layer_sees(HWC) == pytest.approx(1.0)
    assert first_layer_sees(GRID) == 1.0
    assert first_layer_sees(spaces.Box(0, 1, (10, 10, 2), np.uint8)) == 1.0
    assert first_layer_sees(spaces.Box(0.0, 2.0, (10, 10, 2))) == 2.0


def test_the_mask_is_no_feature() -> None:
    space = spaces.Dict({"observation": VECTOR, "action_mask": spaces.MultiBinary(7)})
    obs = batch_of(space)
    encoder = make_encoder(space)
    assert torch.equal(encoder(obs), encoder({**obs, "action_mask": 1 - obs["action_mask"]}))


@pytest.mark.parametrize(
    "space", [spaces.Text(4), spaces.Tuple([VECTOR]), spaces.MultiDiscrete([[2, 2], [2, 2]])], ids=str
)
def test_what_cannot_be_seen_is_refused(space: spaces.Space) -> None:
    with pytest.raises(ConfigError, match="no network"):
        make_encoder(space)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8])
def test_masked_actions_are_never_chosen(dtype: torch.dtype) -> None:
    space = spaces.Dict({"observation": VECTOR, "action_mask": spaces.MultiBinary(6)})
    policy = ActorCritic(space, spaces.Discrete(6), PolicyKwargs())
    rng = torch.Generator().manual_seed(0)
    n = 20_000
    mask = torch.rand(n, 6, generator=rng) < 0.4
    mask[torch.arange(n), torch.randint(6, (n,), generator=rng)] = True  # one is always allowed
    with torch.no_grad():
        policy.action_head.bias.copy_(torch.linspace(-20, 20, 6))  # however much the network wants others
        params = policy.params({"observation": torch.randn(n, 5, generator=rng), "action_mask": mask.to(dtype)})
        noise = policy.distribution.noise((n,), torch.device("cpu"), rng)
        for raw in (policy.distribution.sample(params, noise), policy.distribution.mode(params)):
            assert mask.gather(1, raw.unsqueeze(1)).all()
        log_prob, entropy = policy.distribution.log_prob_entropy(params, policy.distribution.mode(params))
    assert log_prob.isfinite().all()
    assert entropy.isfinite().all()
    assert (entropy >= 0).all()
    single = mask.sum(1) == 1
    assert single.any()
    assert (entropy[single] == 0).all()


def test_logits_without_a_mask_stay() -> None:
    logits = torch.randn(2, 3)
    assert mask_logits(logits, torch.zeros(2, 5)) is logits
    assert mask_logits(logits, {"observation": torch.zeros(2, 5)}) is logits


def theirs(observation_space: spaces.Space, action_space: spaces.Space, **kwargs) -> ActorCriticPolicy:
    return ActorCriticPolicy(observation_space, action_space, lambda _: 3e-4, **kwargs)


@pytest.mark.parametrize("action_space", [spaces.Discrete(3), spaces.Box(-1.0, 1.0, (2,))], ids=str)
@pytest.mark.parametrize("net_arch", [[64, 64], [], [32], {"pi": [16], "vf": [8, 8, 8]}], ids=str)
def test_networks_are_those_of_stable_baselines3(action_space: spaces.Space, net_arch) -> None:
    ours = ActorCritic(VECTOR, action_space, PolicyKwargs(net_arch=net_arch))
    sb3 = theirs(VECTOR, action_space, net_arch=net_arch)
    assert sorted(tuple(p.shape) for p in ours.parameters()) == sorted(tuple(p.shape) for p in sb3.parameters())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in sb3.parameters())


def test_orthogonal_gains_are_those_of_stable_baselines3() -> None:
    def gain(layer: nn.Linear) -> float:
        """Largest singular value; all of them are the gain."""
        values = torch.linalg.svdvals(layer.weight.detach())
        torch.testing.assert_close(values, values[0].expand_as(values), rtol=1e-4, atol=1e-5)
        assert not layer.bias.any()
        return values[0].item()

    ours = ActorCritic(VECTOR, spaces.Discrete(3), PolicyKwargs())
    sb3 = theirs(VECTOR, spaces.Discrete(3))
    for layers, reference, wanted in (
        (ours.pi, sb3.mlp_extractor.policy_net, math.sqrt(2)),
        (ours.vf, sb3.mlp_extractor.value_net, math.sqrt(2)),
        ([ours.action_head], [sb3.action_net], 0.01),
        ([ours.value_head], [sb3.value_net], 1.0),
    ):
        gains = [gain(layer) for layer in layers if isinstance(layer, nn.Linear)]
        assert gains == pytest.approx([gain(layer) for layer in reference if isinstance(layer, nn.Linear)], rel=1e-4)
        assert gains == pytest.approx([wanted] * len(gains), rel=1e-4)
        kinds = [type(layer).__name__ for layer in layers]
        assert kinds == [type(layer).__name__ for layer in reference]

    plain = ActorCritic(VECTOR, spaces.Discrete(3), PolicyKwargs(ortho_init=False))
    values = torch.linalg.svdvals(plain.pi[0].weight.detach())
    assert values[0] > 1.05 * values[-1]


def test_policy_and_value_agree_alone_and_together() -> None:
    space = spaces.Dict({"observation": VECTOR, "action_mask": spaces.MultiBinary(3)})
    policy = ActorCritic(space, spaces.Discrete(3), PolicyKwargs(net_arch={"pi": [8], "vf": [4]}, activation_fn="relu"))
    obs = batch_of(space)
    params, value = policy(obs)
    assert params.shape == (3, 3)
    assert value.shape == (3,)
    assert torch.equal(policy.params(obs), params)
    assert torch.equal(policy.value(obs), value)
