"""Gymnasium spaces as JSON, so that a saved policy needs no environment, and as batches of random actions.

Torch is imported where it is used: the workers that step environments of other libraries start faster without it.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium import spaces

from rltrain.errors import CheckpointError, ConfigError, RunError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MOST_NUMBERS = 2**26
"""In an observation or action that a saved space may describe."""
MASK = "action_mask"
"""The entry of a dict of observations that says which actions are allowed now."""


def to_json(space: spaces.Space) -> dict[str, Any]:
    """A space as plain data.

    Raises:
        ConfigError: A kind of space that is not supported.
    """
    match space:
        case spaces.Box():
            bounds = {"low": _shorten(space.low), "high": _shorten(space.high)}
            return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
        case spaces.Discrete():
            return {"type": "Discrete", "n": int(space.n), "start": int(space.start), **_dtype(space)}
        case spaces.MultiDiscrete():
            start = np.asarray(space.start).tolist()
            return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": start, **_dtype(space)}
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.n)}
        case spaces.Dict():
            parts = {name: to_json(part) for name, part in space.spaces.items()}
            if all(isinstance(name, str) for name in parts):
                return {"type": "Dict", "spaces": parts}
            return {"type": "Dict", "keys": [_key(name) for name in parts], "spaces": list(parts.values())}
        case spaces.Tuple():
            return {"type": "Tuple", "spaces": [to_json(part) for part in space.spaces]}
        case spaces.OneOf():
            return {"type": "OneOf", "spaces": [to_json(part) for part in space.spaces]}
        case spaces.Text():
            lengths = {"min_length": int(space.min_length), "max_length": int(space.max_length)}
            return {"type": "Text", **lengths, "charset": "".join(sorted(space.character_set))}
        case spaces.Sequence():
            return {"type": "Sequence", "space": to_json(space.feature_space), "stack": bool(space.stack)}
        case spaces.Graph():
            edge = None if space.edge_space is None else to_json(space.edge_space)
            return {"type": "Graph", "node_space": to_json(space.node_space), "edge_space": edge}
    if space.dtype is not None and np.dtype(space.dtype).kind == "U":  # text of another library: MiniGrid's missions
        return to_json(spaces.Text(2**16))
    raise ConfigError(f"The space {space} is not supported.", "Use the kinds of spaces that Gymnasium has.")


def _dtype(space: spaces.Discrete | spaces.MultiDiscrete) -> dict[str, str]:
    """The type of its numbers, where it is not the usual one."""
    return {} if space.dtype == np.int64 else {"dtype": str(np.dtype(space.dtype))}


def _dtype_of(data: dict[str, Any]) -> dict[str, Any]:
    return {"dtype": np.dtype(data["dtype"]).type} if "dtype" in data else {}


def _key(name: Any) -> str | int:
    """A key of a Dict as JSON has it.

    Raises:
        ConfigError: It is neither text nor a whole number.
    """
    if isinstance(name, str):
        return name
    if isinstance(name, Integral) and not isinstance(name, bool):
        return int(name)
    raise ConfigError(f"A Dict has the key {name!r}.", "Name its entries by text.")


def from_json(data: dict[str, Any]) -> spaces.Space:
    """The inverse of :func:`to_json`.

    Raises:
        CheckpointError: The data does not describe a space.
    """
    try:
        match data["type"]:
            case "Box":
                shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
                if math.prod(shape) > MOST_NUMBERS:
                    raise ValueError(f"a shape of {shape}")
                low, high = (np.broadcast_to(np.asarray(data[side], dtype), shape) for side in ("low", "high"))
                return spaces.Box(low, high, shape, dtype.type)
            case "Discrete":
                return spaces.Discrete(data["n"], start=data["start"], **_dtype_of(data))
            case "MultiDiscrete":
                nvec, start = np.asarray(data["nvec"]), np.asarray(data["start"])
                return spaces.MultiDiscrete(nvec, start=start, **_dtype_of(data))
            case "MultiBinary":
                return spaces.MultiBinary(data["n"])
            case "Dict":
                parts = data["spaces"]
                pairs = parts.items() if "keys" not in data else zip(data["keys"], parts, strict=True)
                return spaces.Dict({name: from_json(part) for name, part in pairs})
            case "Tuple":
                return spaces.Tuple([from_json(part) for part in data["spaces"]])
            case "OneOf":
                return spaces.OneOf([from_json(part) for part in data["spaces"]])
            case "Text":
                return spaces.Text(data["max_length"], min_length=data["min_length"], charset=data["charset"])
            case "Sequence":
                return spaces.Sequence(from_json(data["space"]), stack=data["stack"])
            case "Graph":
                parts = (data["node_space"], data["edge_space"])
                return spaces.Graph(*(None if part is None else from_json(part) for part in parts))  # type: ignore[arg-type]
    except (AssertionError, AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:  # by Gymnasium
        raise CheckpointError(f"A saved space cannot be read: {error}.", "The run folder is damaged.") from error
    raise CheckpointError(f"A saved space has the unknown type '{data['type']}'.", "The run folder is damaged.")


def joined_actions(space: spaces.Space) -> spaces.Space:
    """The space in which an agent acts where the environment's actions are a Tuple or Dict, of any depth.

    Choices (Discrete, MultiDiscrete, MultiBinary) side by side become one MultiDiscrete, Boxes one flat Box in float32.
    Any other space, and one that has both, stays as it is.
    """
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return space
    parts = list(action_parts(space))
    if parts and all(isinstance(part, spaces.Box) for part in parts):
        low, high = (np.concatenate([getattr(part, side).ravel() for part in parts]) for side in ("low", "high"))
        return spaces.Box(low.astype(np.float32), high.astype(np.float32))
    if not parts or not all(
        isinstance(part, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary) for part in parts
    ):
        return space
    sizes, starts = zip(*map(_choices, parts), strict=True)
    return spaces.MultiDiscrete(np.concatenate(sizes), start=np.concatenate(starts))


def action_parts(space: spaces.Space) -> Iterator[spaces.Space]:
    """The parts of a Tuple or Dict that are neither, in order; the space itself if it is none."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
            yield from action_parts(part)
    else:
        yield space


def _choices(space: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
    """How many values each number of an action has, and the first of them."""
    match space:
        case spaces.Discrete():
            return np.array([space.n]), np.array([space.start])
        case spaces.MultiDiscrete():
            return space.nvec.ravel(), np.asarray(space.start).ravel()
    numbers = int(np.prod(space.shape or ()))
    return np.full(numbers, 2), np.zeros(numbers, np.int64)


def parts_of(space: spaces.Space) -> list[spaces.Space]:
    """The entries of a Dict, or the space itself."""
    return list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]


def entries_of(space: spaces.Space) -> dict[str, spaces.Space]:
    """The entries of a Dict by name, or the space itself under an empty one."""
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}


def categories_of(space: spaces.Space) -> tuple[Any, Any] | None:
    """The lowest and the highest category of a space, arrays for a MultiDiscrete; None for one of other values."""
    match space:
        case spaces.Discrete(start=start, n=n):
            return int(start), int(start + n) - 1
        case spaces.MultiDiscrete(start=start, nvec=nvec):
            return start, start + nvec - 1
        case spaces.MultiBinary():
            return 0, 1
    return None


Pair: TypeAlias = tuple[spaces.Space, spaces.Space]
"""The spaces of an observation and an action."""


def first_unlike(these: Pair, others: Pair) -> tuple[str, spaces.Space, spaces.Space] | None:
    """What differs, ``observations`` or ``actions``, with its two spaces; None if both are the same."""
    each = zip(("observations", "actions"), these, others, strict=True)
    return next((named for named in each if named[1] != named[2]), None)


def bytes_of(space: spaces.Space) -> int:
    """Bytes of one sample of a space as tensors."""
    if isinstance(space, spaces.Dict):
        return sum(bytes_of(part) for part in space.spaces.values())
    size = np.dtype(space.dtype or np.int64).itemsize
    return size * int(np.prod(space.shape or (1,)))


def _shorten(bound: np.ndarray) -> Any:
    """One number where all are equal; JSON's Infinity stands for an infinite bound."""
    return bound.flat[0].item() if bound.size and (bound == bound.flat[0]).all() else bound.tolist()


def channels_first(shape: Sequence[int]) -> bool:
    """Whether the channels of an image come first rather than last.

    Of three sides, the two equal ones are height and width. If none or all are equal, the shorter of the first and the
    last is the channels, or the last if these are equal too.
    """
    first, middle, last = shape
    return middle == last if (first == middle) != (middle == last) else first < last


def random_actions(
    space: spaces.Space, n: int, device: torch.device, rng: torch.Generator | None, mask: Tensor | None = None
) -> Tensor:
    """Uniformly random actions (n, *A); unbounded Box dimensions are drawn from the standard normal.

    Args:
        space: Space of one action.
        n: Number of actions.
        device: Device of the result.
        rng: Generator; None for torch's default one.
        mask: (n, n_actions), not zero for the actions to choose from, and for a MultiDiscrete space one after another
            for all its parts; None for all. A row that allows nothing is taken for one that allows everything.

    Raises:
        ConfigError: The space is not a space of actions.
    """
    import torch

    match space:
        case spaces.Discrete() if mask is not None:
            return _random_allowed(mask, rng) + int(space.start)
        case spaces.MultiDiscrete() if mask is not None:
            parts = mask.split([int(n) for n in space.nvec.ravel()], -1)
            start = torch.as_tensor(np.asarray(space.start).ravel(), device=device)
            return (torch.stack([_random_allowed(part, rng) for part in parts], -1) + start).view(n, *space.shape)
        case spaces.Discrete():
            return torch.randint(int(space.n), (n,), device=device, generator=rng) + int(space.start)
        case spaces.MultiDiscrete():
            nvec, start = (torch.as_tensor(np.asarray(x), device=device) for x in (space.nvec, space.start))
            uniform = torch.rand((n, *space.shape), device=device, generator=rng)
            return (uniform * nvec).to(torch.int64) + start
        case spaces.MultiBinary():
            return torch.randint(2, (n, *space.shape), device=device, generator=rng, dtype=torch.int8)
        case spaces.Box():
            low, high = (torch.as_tensor(x, device=device, dtype=torch.float32) for x in (space.low, space.high))
            bounded = (high - low).isfinite()
            uniform = torch.rand((n, *space.shape), device=device, generator=rng)
            normal = torch.randn((n, *space.shape), device=device, generator=rng)
            inside = torch.lerp(low.where(bounded, 0.0), high.where(bounded, 0.0), uniform)
            return torch.where(bounded, inside, normal.clamp(low, high))
    raise ConfigError(f"There are no random actions for {space}.", "Use Discrete, MultiDiscrete, MultiBinary or Box.")


def _random_allowed(mask: Tensor, rng: torch.Generator | None) -> Tensor:
    """The index of a random entry that is not zero in each row of (n, k); of any, if all are zero."""
    import torch

    noise, forbidden = torch.rand(mask.shape, device=mask.device, generator=rng), mask == 0
    return noise.masked_fill(forbidden & ~forbidden.all(-1, keepdim=True), -1.0).argmax(-1)


def allows_nothing(mask: Tensor, space: spaces.Space) -> Tensor:
    """(...) bool: where a mask (..., n) allows no action, or none in one of the parts of a MultiDiscrete space.

    Args:
        mask: Not zero for what is allowed.
        space: Space of one action.
    """
    if isinstance(space, spaces.MultiDiscrete):
        parts = (mask != 0).split([int(n) for n in space.nvec.ravel()], -1)
        return ~functools.reduce(operator.and_, (part.any(-1) for part in parts))
    return ~(mask != 0).any(-1)


def no_choice(who: str, when: str = "") -> RunError:
    """The error for a mask that allows nothing while the episode goes on.

    Args:
        who: Which environment, such as ``Environment 3``.
        when: When, beginning with a space, if that is known.
    """
    return RunError(
        f"{who} allows no action{when}, and its episode goes on.",
        "End the episode where nothing can be done, or allow an action that does nothing.",
    )


def is_picture(space: spaces.Space) -> bool:
    """Whether a space is one of pictures, which go through convolutions: a Box with three dimensions."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3


def check_mask(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Checks that an action mask, if there is one, fits the actions.

    Raises:
        ConfigError: It has another number of entries, is for actions that cannot be masked, or is all there is to see.
    """
    if not isinstance(observation_space, spaces.Dict) or MASK not in observation_space.spaces:
        return
    match action_space:
        case spaces.Discrete():
            choices = int(action_space.n)
        case spaces.MultiDiscrete():
            choices = int(action_space.nvec.sum())
        case spaces.MultiBinary():
            choices = int(np.prod(action_space.shape))
        case _:
            raise ConfigError(
                f"There is an {MASK}, and actions of {action_space} cannot be masked.",
                f"Give that entry of the observation another name than '{MASK}', or leave it out.",
            )
    shape = observation_space[MASK].shape or ()
    if shape != (choices,):
        raise ConfigError(
            f"The {MASK} has the shape {shape}, and there are {choices} actions to choose from.",
            f"Give it the shape ({choices},): one entry for each action, 1 where it is allowed.",
        )
    if len(observation_space.spaces) == 1:
        raise ConfigError(
            f"There is nothing to observe but the {MASK}.",
            "Give the observation another entry beside it, if only a constant number.",
        )
