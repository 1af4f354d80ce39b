"""Makes functions faster: ``torch.compile`` fuses their kernels, and on a GPU one CUDA graph launches them."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import torch

from rltrain.errors import ConfigError
from rltrain.tree import leaves, tree_map

LEAN = {"fallback_random": True, "size_asserts": False, "alignment_asserts": False}
"""Options of Inductor: torch's own generator draws, and inputs, which are like those seen before, are not checked."""
WARM_UPS = 3  # calls before a recording: libraries set themselves up, and torch.compile compiles


def fused(
    function: Callable[..., Any], *args: Any, device: torch.device | None = None, **options: Any
) -> Callable[..., Any]:
    """Compiles ``function`` as a whole at its first call, which raises if that is not possible.

    Python numbers among its arguments are compiled in as constants: pass 0-d tensors instead.

    Args:
        function: A function of trees of tensors of fixed shapes.
        *args: Arguments of ``torch.compile``.
        device: The device it runs on, if it draws random numbers.
        **options: Options of ``torch.compile``, such as ``backend``.
    """
    if options.get("backend", "inductor") == "inductor" and "mode" not in options:
        # On a CPU, torch's own generator is several times as fast as Inductor's, which computes number by number.
        draws = {"fallback_random": device is not None and device.type == "cpu"}
        options["options"] = draws | _vectorizing() | (options.get("options") or {})
    return torch.compile(function, *args, fullgraph=True, dynamic=False, **options)


def _vectorizing() -> dict[str, Any]:
    """Options that let gcc vectorize the loops in Inductor's code for CPUs.

    Inductor writes its own vector code and turns gcc's vectorizer off. Its vectors of bools and bytes, and all masks,
    go through memory lane by lane, however, in loops that gcc's vectors make up to ten times as fast. Inductor has no
    option for that, but its option for the architecture, which torch 2.11 does not have yet, comes later on gcc's
    command line and can turn the vectorizer on again.
    """
    compiler = cpp_compiler() or ""  # a GPU needs none; on a CPU, check_compiler reports a missing one
    is_gcc = compiler.endswith(("gcc", "g++")) and "clang" not in compiler
    usable = is_gcc and platform.machine() == "x86_64" and "cpp.march" in _inductor_options()
    march = os.environ.get("TORCHINDUCTOR_CPP_MARCH", "native")  # the variable of newer versions of torch
    return {"cpp.march": f"{march} -ftree-loop-vectorize"} if usable else {}


def _inductor_options() -> Sequence[str]:
    """The options of ``torch.compile`` that this torch knows."""
    try:
        from torch._inductor import list_options
    except ImportError:
        return ()
    return list_options()


def cpp_compiler() -> str | None:
    """The C++ compiler that ``torch.compile`` uses, if there is one."""
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler
    except ImportError:
        return shutil.which(os.environ.get("CXX", "g++"))
    try:
        return get_cpp_compiler()
    except Exception:  # the class of the error is private too
        return None


def _has_triton() -> bool:
    """Whether ``torch.compile`` finds a Triton for the accelerator."""
    try:
        from torch.utils._triton import has_triton
    except ImportError:
        return find_spec("triton") is not None
    return has_triton()


def can_lower(device: torch.device) -> bool:
    """Whether :func:`lowered` serves for a device."""
    try:
        import torch._inductor.compile_fx  # noqa: F401
    except ImportError:
        return False
    return device.type == "cpu"


def lowered(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[[list[torch.Tensor]], Any]:
    """Compiles a graph of operations for a CPU by Inductor, which keeps what it writes for other processes.

    Args:
        graph: The graph; it is used up. None of its results shares memory with another one or with an input.
        inputs: Its inputs, no two of which may share memory.

    Returns:
        A function that takes a list of such inputs, which it empties, and returns the results.
    """
    began = time.perf_counter()
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner

    pieces: list[Any] = []
    sizes: list[tuple[int, int]] = []  # of inputs and results

    def note(piece: torch.fx.GraphModule, given: Sequence[Any], **options: Any) -> Any:
        pieces.append(compile_fx_inner(piece, given, **options))
        sizes.append((len(given), _results(piece)))
        return pieces[-1]

    results = _results(graph)
    whole: Any = compile_fx(graph, [*inputs], inner_compile=note, config_patches=LEAN | _vectorizing())
    CompileClock.lowering += time.perf_counter() - began
    if sizes == [(len(inputs), results)]:  # then nothing is left to do around it
        return getattr(pieces[0], "current_callable", None) or pieces[0]
    return lambda given: whole(*given)


def _results(graph: torch.fx.GraphModule) -> int:
    """How many results a graph has."""
    output: Any = next(iter(reversed(graph.graph.nodes)))
    return len(output.args[0])


def recorded(function: Callable[..., Any], device: torch.device, *, fresh: bool = False) -> Callable[..., Any]:
    """Returns ``function`` itself, or on a GPU a :class:`Recorded` one."""
    return Recorded(function, fresh=fresh) if device.type == "cuda" else function


def check_compiler(device: torch.device) -> None:
    """Checks that ``torch.compile`` finds a compiler for the device.

    Raises:
        ConfigError: It finds none.
    """
    if device.type in ("cuda", "xpu") and not _has_triton():
        raise ConfigError("torch.compile finds no Triton for this GPU.", "Install triton, or leave --compile out.")
    if device.type == "cpu" and cpp_compiler() is None:
        raise ConfigError(
            "torch.compile finds no C++ compiler.", "Install g++, name another in CXX, or leave --compile out."
        )


class CompileClock:
    """The seconds that compiling has taken in this process since the clock was made.

    The hooks for those of ``torch.compile`` are private: a torch without them leaves these out.
    """

    lowering = 0.0  # seconds of all calls of :func:`lowered`

    def __init__(self) -> None:
        self._hooked, self._before = 0.0, CompileClock.lowering
        try:
            from torch._dynamo.callback import callback_handler
        except ImportError:
            return
        callback_handler.register_start_callback(self._start)
        callback_handler.register_end_callback(self._stop)

    def _start(self, _: Any) -> None:
        self._started = time.perf_counter()

    def _stop(self, _: Any) -> None:
        self._hooked += time.perf_counter() - self._started

    @property
    def seconds(self) -> float:
        """The seconds until now."""
        return self._hooked + CompileClock.lowering - self._before


@dataclass
class Recording:
    """A CUDA graph, or the warm-up calls before it is recorded."""

    places: Any  # the tensors that its arguments are copied to
    calls: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    result: Any = None


class Recorded:
    """A function whose kernels are recorded once as a CUDA graph, and then launched by one call.

    The first calls run the function as it is. Then it is recorded once for each set of shapes it is called with.
    Arguments are copied to the tensors of the recording; all other tensors that the function reads must keep their
    place in memory, and it must change tensors in place.

    Args:
        function: A function of trees of tensors. It may draw random numbers from the default generator only.
        fresh: Whether results are copies. If not, they are valid until the next call.
    """

    def __init__(self, function: Callable[..., Any], *, fresh: bool = False) -> None:
        self.function, self.fresh = function, fresh
        self.recordings: dict[Any, Recording] = {}

    @cached_property
    def stream(self) -> torch.cuda.Stream:
        """The stream of both warm-up and recording, because libraries set themselves up per stream."""
        return torch.cuda.Stream()

    def __call__(self, *args: Any) -> Any:
        """Calls the function and returns its result."""
        given = list(leaves(args))
        key = tuple((x.shape, x.dtype) for x in given)
        if key not in self.recordings:
            self.recordings[key] = Recording(tree_map(torch.clone, args))
        recording = self.recordings[key]
        pairs = defaultdict(list)
        for place, new in zip(leaves(recording.places), given, strict=True):
            pairs[new.dtype].append((place, new))
        for pair in pairs.values():
            _copy_each([place for place, _ in pair], [new for _, new in pair])
        if recording.calls < WARM_UPS:
            recording.calls += 1
            result = self._run_aside(recording.places)
        else:
            if recording.graph is None:
                recording.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(recording.graph, stream=self.stream):  # nothing is computed yet
                    recording.result = self.function(*recording.places)
            recording.graph.replay()
            result = recording.result
        return tree_map(torch.clone, result) if self.fresh else result

    def _run_aside(self, args: Any) -> Any:
        """Runs the function on the stream of the recording."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = self.function(*args)
        torch.cuda.current_stream().wait_stream(self.stream)
        return result


def _copy_each(places: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    """Copies tensors of one type to their places, on a GPU with one kernel."""
    if hasattr(torch, "_foreach_copy_"):
        torch._foreach_copy_(places, values)
    else:
        for place, value in zip(places, values, strict=True):
            place.copy_(value)
