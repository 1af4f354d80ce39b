"""Trees of tensors: a tensor, dicts, dataclasses, and mixtures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from rltrain.tree import children, from_dict, leaves, names, to_dict, tree_map, tree_where


@dataclass
class Inner:
    x: Tensor
    y: Tensor


@dataclass
class Outer:
    inner: Inner
    named: dict[str, Tensor]
    z: Tensor


def tree(offset: float = 0.0) -> Outer:
    return Outer(
        Inner(torch.arange(3.0) + offset, torch.arange(6.0).view(3, 2) + offset),
        {"a": torch.arange(3) + int(offset), "b": torch.arange(12).view(3, 2, 2) + int(offset)},
        torch.tensor([True, False, True]),
    )


def test_leaves_come_in_the_order_of_the_fields() -> None:
    one = tree()
    assert [id(x) for x in leaves(one)] == [id(x) for x in (one.inner.x, one.inner.y, *one.named.values(), one.z)]
    assert list(leaves(one.z)) == [one.z]
    assert list(children(one)) == ["inner", "named", "z"]


def test_map_keeps_the_structure_and_takes_others_along() -> None:
    doubled = tree_map(lambda x, y: x.double() + y.double(), tree(), tree(1.0))
    assert isinstance(doubled, Outer)
    assert isinstance(doubled.inner, Inner)
    assert doubled.inner.x.tolist() == [1.0, 3.0, 5.0]
    assert doubled.named["a"].tolist() == [1.0, 3.0, 5.0]
    assert tree_map(lambda x: x + 1, torch.zeros(2)).tolist() == [1.0, 1.0]


def test_map_goes_by_name_and_not_by_order() -> None:
    one, other = {"a": torch.tensor(1), "b": torch.tensor(2)}, {"b": torch.tensor(20), "a": torch.tensor(10)}
    assert {k: int(v) for k, v in tree_map(torch.add, one, other).items()} == {"a": 11, "b": 22}
    with pytest.raises(KeyError):
        tree_map(torch.add, one, {"a": torch.tensor(1)})


def test_where_selects_rows() -> None:
    mask = torch.tensor([True, False, True])
    chosen = tree_where(mask, tree(100.0), tree())
    assert chosen.inner.x.tolist() == [100.0, 1.0, 102.0]
    assert chosen.inner.y.tolist() == [[100.0, 101.0], [2.0, 3.0], [104.0, 105.0]]
    assert chosen.named["b"][:, 0, 0].tolist() == [100, 4, 108]
    assert [x.dtype for x in leaves(chosen)] == [x.dtype for x in leaves(tree())]
    assert [x.shape for x in leaves(chosen)] == [x.shape for x in leaves(tree())]


def test_where_does_not_let_nan_through() -> None:
    chosen = tree_where(torch.tensor([True, False]), torch.zeros(2, 3), torch.full((2, 3), torch.nan))
    assert not chosen[0].isnan().any()
    assert chosen[1].isnan().all()


def test_saving_and_restoring() -> None:
    saved = to_dict(tree(5.0))
    assert set(saved) == {"inner", "named", "z"}
    assert set(saved["inner"]) == {"x", "y"}
    restored = from_dict(tree(), saved)
    assert isinstance(restored, Outer)
    assert isinstance(restored.inner, Inner)
    assert all(torch.equal(a, b) for a, b in zip(leaves(restored), leaves(tree(5.0)), strict=True))
    restored.inner.x.zero_()
    assert saved["inner"]["x"].tolist() == [5.0, 6.0, 7.0]  # a copy


def test_restoring_takes_the_type_of_the_template() -> None:
    assert from_dict(torch.zeros(2), torch.ones(2, dtype=torch.float64)).dtype == torch.float32


def test_what_does_not_fit_is_refused() -> None:
    saved = to_dict(tree())
    del saved["inner"]["y"]
    with pytest.raises(ValueError, match="no entry 'y'"):
        from_dict(tree(), saved)
    saved["inner"]["y"] = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"shape \(4, 2\), expected \(3, 2\)"):
        from_dict(tree(), saved)


class Pair(NamedTuple):
    h: Tensor
    c: Tensor | None


def memory(offset: float = 0.0) -> tuple[Any, ...]:
    """A recurrent state as authors write them."""
    numbers = torch.arange(3.0) + offset
    return Pair(numbers, numbers.view(3, 1)), (numbers, None), {"deep": (numbers,)}


def test_tuples_are_trees_and_nothing_stays_nothing() -> None:
    mask = torch.tensor([True, False, True])
    pair, plain, named = chosen = tree_where(mask, memory(100.0), memory())
    assert type(pair) is Pair
    assert pair.h.tolist() == pair.c.flatten().tolist() == plain[0].tolist() == [100.0, 1.0, 102.0]
    assert (type(plain), plain[1], type(named["deep"])) == (tuple, None, tuple)
    assert len(list(leaves(chosen))) == 4
    assert list(names(chosen)) == ["0.h", "0.c", "1.0", "2.deep.0"]
    assert tree_map(lambda x: x, None) is tree_where(mask, None, None) is to_dict(None) is None
    saved = to_dict(memory(5.0))
    assert set(saved) == {"0", "1", "2"}
    restored = from_dict(memory(), saved)
    assert (type(restored[0]), type(restored[1])) == (Pair, tuple)
    assert all(torch.equal(a, b) for a, b in zip(leaves(restored), leaves(memory(5.0)), strict=True))
    with pytest.raises(ValueError, match="no entry 'c'"):
        from_dict(memory(), {**saved, "0": {"h": saved["0"]["h"]}})


@pytest.mark.parametrize("bad", [3, "x", [torch.zeros(1)], {1}], ids=str)
def test_other_things_are_no_trees(bad: object) -> None:
    with pytest.raises(TypeError, match=type(bad).__name__):
        tree_map(lambda x: x, bad)
    with pytest.raises(TypeError):
        list(leaves({"a": bad}))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.float64])
@pytest.mark.parametrize("shape", [(300,), (300, 1), (300, 5, 7), (300, 0), (300, 2, 6), (300, 16)])
@pytest.mark.parametrize("compiled", [False, True])
def test_where_gives_what_torch_does_for_every_type(dtype: torch.dtype, shape: tuple[int, ...], compiled: bool) -> None:
    select = torch.compile(tree_where, backend="eager", fullgraph=True) if compiled else tree_where
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-128, 256, shape, generator=rng).to(dtype) for _ in range(2))
    mask = torch.rand(300, generator=rng) < 0.3
    for chosen, otherwise in ((a, b), (a.t().contiguous().t() if a.dim() == 2 else a, b)):
        result = select(mask, chosen, otherwise)
        assert result.dtype == dtype
        assert torch.equal(result[mask], a[mask])
        assert torch.equal(result[~mask], b[~mask])
    torch.compiler.reset()
