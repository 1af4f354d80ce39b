"""Operations over trees of tensors: a tensor, None, or a dict, dataclass, tuple or named tuple of trees.

Observations are a tensor or a flat dict of tensors; environment states are dataclasses of tensors; recurrent states
may be any of these. Everything that stores, selects or saves them treats the tree alike. None stays None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from rltrain.compiling import is_compiling

T = TypeVar("T")

VIEWS_OF_BOOLS = TorchVersion(torch.__version__) >= "2.13"  # in code that Inductor compiles; in 2.11 they raise


def children(tree: Any) -> dict[str, Any]:
    """The branches of a tree by name: keys, fields, or ``"0"``, ``"1"``, ... of a plain tuple.

    Raises:
        TypeError: It is no tree.
    """
    if isinstance(tree, Mapping):
        return dict(tree)
    if isinstance(tree, tuple):
        return dict(zip(getattr(tree, "_fields", map(str, range(len(tree)))), tree, strict=True))
    if is_dataclass(tree):
        return {name: getattr(tree, name) for name in tree.__dataclass_fields__}
    raise TypeError(f"expected a tensor, None, or a dict, dataclass or tuple of them, got {type(tree).__name__}")


def tree_map(function: Callable[..., Any], tree: T, *others: Any) -> T:
    """Applies ``function`` leaf by leaf and returns a tree of the same structure."""
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if tree is None:
        return tree
    branches = {
        name: tree_map(function, branch, *(children(other)[name] for other in others))
        for name, branch in children(tree).items()
    }
    if isinstance(tree, Mapping):
        return branches  # type: ignore[return-value]
    if isinstance(tree, tuple) and not hasattr(tree, "_fields"):
        return tuple(branches.values())  # type: ignore[return-value]
    return type(tree)(**branches)


def tree_cat(trees: Sequence[T]) -> T:
    """Trees of (N, ...) one after another, along the first dimension."""
    return tree_map(lambda *parts: torch.cat(parts), trees[0], *trees[1:])


def leaves(tree: Any) -> Iterator[Tensor]:
    """The tensors of a tree, in the order of its fields."""
    if isinstance(tree, Tensor):
        yield tree
    elif tree is not None:
        for branch in children(tree).values():
            yield from leaves(branch)


def flatten(tree: Any) -> list[Tensor]:
    """The tensors of a tree in the order of :func:`leaves`; faster for trees that are walked in every step."""
    found: list[Tensor] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Tensor]) -> None:
    if isinstance(tree, Tensor):
        found.append(tree)
    elif tree is None:
        return
    elif isinstance(tree, tuple):
        for branch in tree:
            _collect(branch, found)
    elif isinstance(tree, dict):
        for branch in tree.values():
            _collect(branch, found)
    else:
        for branch in children(tree).values():
            _collect(branch, found)


def names(tree: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of the tensors of a tree, in the order of :func:`leaves`; empty for a tensor."""
    if isinstance(tree, Tensor):
        yield prefix
    elif tree is not None:
        for name, branch in children(tree).items():
            yield from names(branch, f"{prefix}.{name}" if prefix else name)


def columns(parts: Sequence[Tensor]) -> Tensor:
    """K tensors (N,) as (N, K), laid out column by column, seven times as fast as ``torch.stack(parts, dim=1)``."""
    return torch.stack(tuple(parts)).T


def tree_where(mask: Tensor, chosen: T, otherwise: T) -> T:
    """Row by row: ``chosen`` where ``mask`` (N,) is true, ``otherwise`` elsewhere.

    Every row is computed on both sides, so shapes stay fixed and nothing waits for the device.
    """

    def select(a: Tensor, b: Tensor) -> Tensor:
        if a.numel() == 0:
            return b
        rows = mask.view(-1, *(1,) * (a.dim() - 1)) if a.dim() > 1 else mask
        if a.dim() > 1 and a.element_size() == 1 and a.device.type == "cpu" and can_view_bools():
            if word := _word(a, b):  # as many bytes at once
                x, y = a.flatten(1).view(word), b.flatten(1).view(word)
                return torch.where(mask.unsqueeze(1), x, y).view(a.dtype).view(a.shape)
            # torch.where does not vectorise over a mask with fewer columns; arithmetic on bytes does, and is 8 times
            # as fast. The mask is 0 or 255, which lets either nothing or all of the difference through.
            a, b, dtype = a.view(torch.uint8), b.view(torch.uint8), a.dtype
            return (a ^ b).bitwise_and_(rows.view(torch.uint8).neg()).bitwise_xor_(b).view(dtype)
        return torch.where(rows, a, b)

    return tree_map(select, chosen, otherwise)


def can_view_bools() -> bool:
    """Whether bools can be viewed as numbers, and numbers as bools: not in code that an older Inductor compiles."""
    return VIEWS_OF_BOOLS or not is_compiling()


def view_bools(bools: Tensor, dtype: torch.dtype) -> Tensor:
    """Bools as the bytes 0 and 1 of an integer type: in the same memory, where that can be had."""
    return bools.view(dtype) if can_view_bools() else bools.to(torch.uint8).view(dtype)


def view_as_bools(numbers: Tensor) -> Tensor:
    """Integers whose bytes are 0 and 1 as bools, one for each byte: in the same memory, where that can be had."""
    return numbers.view(torch.bool) if can_view_bools() else numbers.view(torch.uint8) != 0


def _word(a: Tensor, b: Tensor) -> torch.dtype | None:
    """The largest integer type as which both of these byte tensors (N, ...) can be viewed, if there is one."""
    size = a.shape[1:].numel()
    if not (a.is_contiguous() and b.is_contiguous()):
        return None
    if is_compiling():  # cannot ask for the offset, but of several rows one after another it is whole
        return {0: torch.int64, 4: torch.int32}.get(size % 8) if len(a) > 1 else None
    return torch.int64 if size % 8 == a.storage_offset() % 8 == b.storage_offset() % 8 == 0 else None


def to_dict(tree: Any) -> Any:
    """The tree with every dataclass and tuple turned into a dict, for saving."""
    if isinstance(tree, Tensor) or tree is None:
        return tree
    return {name: to_dict(branch) for name, branch in children(tree).items()}


def from_dict(template: T, saved: Any) -> T:
    """The inverse of :func:`to_dict`: a tree like ``template`` with the tensors of ``saved``.

    Raises:
        ValueError: A saved tensor is missing or has another shape than in ``template``.
    """
    try:
        return tree_map(_fit, template, saved)
    except KeyError as error:
        raise ValueError(f"the saved state has no entry {error}") from None


def _fit(current: Tensor, saved: Tensor) -> Tensor:
    if current.shape != saved.shape:
        raise ValueError(f"the saved state has shape {tuple(saved.shape)}, expected {tuple(current.shape)}")
    return torch.empty_like(current).copy_(saved)  # laid out alike: how a kernel rounds may depend on that
