"""Functions on a CPU whose operations are recorded once, and compiled into one function without Python in between.

Where batches are small, what an operation costs is its dispatch. ``torch.compile`` removes most of it, but it takes
apart Python code, checks before every call that this would still do the same, and cannot take in a backward pass. Here
the operations themselves are recorded while the function runs, as for a CUDA graph, and under the same rule: what else
the function reads, it must find in the same place in memory, and change in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

from rltrain.compile import lowered
from rltrain.compiling import is_compiling, recording
from rltrain.errors import ConfigError
from rltrain.tree import children, flatten, tree_map

Build = Callable[[Iterator[Tensor]], Any]
"""Makes a tree of the next tensors."""


class Traced:
    """A function of trees of tensors, recorded and compiled once for each set of shapes that it is called with.

    The first call with new shapes runs the function to record it, puts back what that has changed, and does the same by
    what was compiled, so that a run that is resumed computes what it would have. Results are new tensors.

    Args:
        function: Returns a tree of tensors without gradients. It may draw random numbers from the default generator
            only.
        owner: Reads its own attributes in the function, and perhaps those of an ``env`` inside. If one of them gets
            another value, the function is recorded anew.
    """

    def __init__(self, function: Callable[..., Any], owner: Any = None) -> None:
        self.function = function
        self.places = [*_attributes(owner)]
        self.known: list[Any] = []
        self.known_ids: list[int] = []
        self.programs: dict[Any, tuple[Callable[..., Any], list[Tensor], Build]] = {}

    def __call__(self, *args: Any) -> Any:
        """Calls the function and returns its result."""
        if is_compiling():  # as a part of something larger
            return self.function(*args)
        given = flatten(args)
        if self.places and [id(value) for place in self.places for value in place.values()] != self.known_ids:
            self._notice_change()
        key = tuple([(x.shape, x.stride()) for x in given])
        program = self.programs.get(key)
        if program is None:
            return self._record(key, args, given)
        compiled, captured, build = program
        return build(iter(compiled([*given, *captured])))

    def forget(self) -> None:
        """Has the function recorded anew, because what it reads is elsewhere now."""
        self.programs.clear()

    def _notice_change(self) -> None:
        self.programs.clear()
        self.known = [value for place in self.places for value in place.values()]  # kept, so that no id is used again
        self.known_ids = [id(value) for value in self.known]

    def _record(self, key: Any, args: Any, given: list[Tensor]) -> Any:
        from torch.fx.experimental.proxy_tensor import make_fx  # takes half a second

        results = []

        def flat(*tensors: Tensor) -> list[Tensor]:
            each = iter(tensors)
            results.append(self.function(*tree_map(lambda _: next(each), args)))
            return _apart(given, flatten(results[0]))

        changed = Changed()
        with torch.random.fork_rng(devices=[]), recording(), changed:
            graph = make_fx(flat)(*given)
        changed.put_back()
        captured = lift(graph)
        compiled = lowered(graph, [*given, *captured])
        build = builder(results[0])
        self.programs[key] = compiled, captured, build
        return build(iter(compiled([*given, *captured])))


class Changed(TorchDispatchMode):
    """Keeps a copy of all memory that operations inside of the block change, from before the first of them.

    Not of rows that are replaced, as in the ring of a replay: who does the same again writes the same rows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op._schema.is_mutable and op not in REPLACING:
            for number, argument in enumerate(op._schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    self._keep(args[number] if number < len(args) else kwargs.get(argument.name))
        return op(*args, **kwargs)

    def _keep(self, written: Any) -> None:
        from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

        with disable_proxy_modes_tracing():  # copying is no part of what is recorded
            for x in written if isinstance(written, list | tuple) else [written]:
                if isinstance(x, Tensor) and (storage := x.untyped_storage()).data_ptr() not in self.kept:
                    self.kept[storage.data_ptr()] = storage, storage.clone()

    def put_back(self) -> None:
        """Restores the memory."""
        for storage, before in self.kept.values():
            storage.copy_(before)


REPLACING = {torch.ops.aten.index_copy_.default, torch.ops.aten.index_fill_.int_Scalar}
"""Operations that replace whole rows."""


def _apart(given: Sequence[Tensor], results: Sequence[Tensor]) -> list[Tensor]:
    """The results, those that are views or share memory as copies."""
    seen = {x.untyped_storage().data_ptr() for x in given}
    own = []
    for x in results:
        place = x.untyped_storage().data_ptr()
        own.append(x.clone() if x._is_view() or place in seen else x)
        seen.add(place)
    return own


def _attributes(owner: Any) -> Iterator[dict[str, Any]]:
    """The attributes of an object, and of those inside of each other as its ``env``."""
    while owner is not None:
        yield vars(owner)
        owner = vars(owner).get("env")


def lift(graph: fx.GraphModule) -> list[Tensor]:
    """Turns the tensors that a graph holds into inputs after the others, and returns them.

    Tensors that share memory, such as parameters in one flat tensor, become views of one input.

    Raises:
        ConfigError: Tensors of different types share memory.
    """
    held: dict[int, list[fx.Node]] = {}
    tensors: dict[fx.Node, Tensor] = {}
    for node in graph.graph.find_nodes(op="get_attr"):
        tensors[node] = tensor = getattr(graph, node.target).detach()
        held.setdefault(tensor.untyped_storage().data_ptr(), []).append(node)
    first = next(node for node in graph.graph.nodes if node.op != "placeholder")
    inputs = [_common(*(tensors[node] for node in nodes)) for nodes in held.values()]
    with graph.graph.inserting_before(first):
        places = [graph.graph.placeholder(f"captured_{number}") for number in range(len(inputs))]
    for place, base, nodes in zip(places, inputs, held.values(), strict=True):
        for node in nodes:
            with graph.graph.inserting_before(node):
                view = _view(graph.graph, place, base, tensors[node])
            node.replace_all_uses_with(view)
            graph.graph.erase_node(node)
            if hasattr(graph, str(node.target)):  # a compiler would take it for one more input
                delattr(graph, str(node.target))
    graph.recompile()
    return inputs


def _common(first: Tensor, *others: Tensor) -> Tensor:
    """The tensor of which all these are views: the first if they are all like it, or else all of their memory.

    Raises:
        ConfigError: They are of different types.
    """
    if any(x.dtype != first.dtype for x in others):
        types = " and ".join(sorted({str(x.dtype) for x in (first, *others)}))
        raise ConfigError(
            f"Tensors of the types {types} share memory, which --compile cannot record.",
            "Make one of them a copy, or leave --compile out.",
        )
    if all(_layout(x) == _layout(first) for x in others):
        return first
    storage = first.untyped_storage()
    size = storage.nbytes() // first.element_size()
    return torch.empty(0, dtype=first.dtype, device=first.device).set_(storage, 0, (size,), (1,))


def _layout(x: Tensor) -> Any:
    """Where in its memory a tensor has its numbers."""
    return x.shape, x.stride(), x.storage_offset()


def _view(graph: fx.Graph, place: fx.Node, base: Tensor, tensor: Tensor) -> fx.Node:
    """A node with ``tensor``, made of that with ``base``."""
    if _layout(tensor) == _layout(base):
        return place
    aten, start = torch.ops.aten, tensor.storage_offset()
    if not tensor.is_contiguous():
        return graph.call_function(aten.as_strided.default, (place, [*tensor.shape], [*tensor.stride()], start))
    part = graph.call_function(aten.slice.Tensor, (place, 0, start, start + tensor.numel()))
    return graph.call_function(aten.view.default, (part, [*tensor.shape]))


def builder(tree: Any) -> Build:
    """What makes trees like this one."""
    if isinstance(tree, Tensor):
        return next
    if tree is None:
        return lambda _: None
    parts = {name: builder(branch) for name, branch in children(tree).items()}
    if isinstance(tree, dict):
        return lambda each: {name: part(each) for name, part in parts.items()}
    inner, kind = [*parts.values()], type(tree)
    if kind is tuple:
        return lambda each: tuple([part(each) for part in inner])
    return lambda each: kind(*[part(each) for part in inner])
