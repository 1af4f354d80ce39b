"""The private parts of torch that are used: each in one file, and none that must be there.

A private part may be gone with any release, and the range of torch that is supported is wide. So this table names
all of them, and the tests below take each away.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from rltrain import compile as compiled
from rltrain.agents.parts import optim
from rltrain.agents.parts.optim import FlatAdam
from rltrain.compile import CompileClock, Recorded, check_compiler, fused
from rltrain.errors import ConfigError

ROOT = Path(__file__).parents[2]

PRIVATE = {
    "torch._dynamo.callback": "rltrain/compile.py",
    "torch._foreach_copy_": "rltrain/compile.py",
    "torch._fused_adam_": "agents/parts/optim.py",
    "torch._inductor": "rltrain/compile.py",
    "torch._inductor.compile_fx": "rltrain/compile.py",
    "torch._inductor.cpp_builder": "rltrain/compile.py",
    # The base class of dispatch modes has no other name; torch's notes "Extending PyTorch" tell to use it.
    "torch.utils._python_dispatch": "rltrain/check/op_counter.py rltrain/traced.py",
    "torch.utils._pytree": "rltrain/cloud/projection.py",
    "torch.utils._triton": "rltrain/compile.py",
}


def dotted(node: ast.AST) -> str:
    """The name that an expression spells; empty if it is anything else."""
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def private_parts(source: str) -> set[str]:
    """The names in torch with a part that begins with one underscore; of longer ones as far as that part."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names if alias.name.startswith("_")]
            names = inside or [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and dotted(node.func) in ("hasattr", "getattr"):
            owner, name = node.args[0], node.args[1]
            names = [f"{dotted(owner)}.{name.value}"] if isinstance(name, ast.Constant) else []
        else:
            names = [dotted(node)]
        for name in names:
            parts = name.split(".")
            if parts[0] != "torch":
                continue
            private = [i for i, part in enumerate(parts) if part.startswith("_") and not part.startswith("__")]
            if private:
                module = isinstance(node, ast.Import | ast.ImportFrom)
                found.add(name if module else ".".join(parts[: private[0] + 1]))
    return found


def test_every_private_part_of_torch_is_in_the_table() -> None:
    found: dict[str, set[str]] = {}
    for folder in ("rltrain", "agents", "envs"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            place = file.relative_to(ROOT).as_posix()
            if place.startswith(("rltrain/agents/", "rltrain/envs/")):
                continue  # links to the other folders
            for name in private_parts(file.read_text(encoding="utf-8")):
                found.setdefault(name, set()).add(place)
    assert found == {name: set(places.split()) for name, places in PRIVATE.items()}


def test_the_reader_sees_private_parts() -> None:
    source = (
        "import torch._a.b\nfrom torch.c._d import e\nfrom torch import _f\nx = torch.ops._g.h(torch._i.j)\ntorch.k\n"
    )
    assert private_parts(source) == {"torch._a.b", "torch.c._d", "torch._f", "torch.ops._g", "torch._i"}
    assert private_parts("if hasattr(torch, '_l'): torch.__version__") == {"torch._l"}


def no_module(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Has an import of the module fail."""
    monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def _own_chance():
    with torch.random.fork_rng():
        yield


@pytest.mark.usefixtures("_own_chance")
@pytest.mark.parametrize("skip", [None, 0.0, 1.0])
def test_adam_without_the_kernel(skip: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(5, 3)
        optimizer = FlatAdam(model.parameters(), eps=1e-5, max_grad_norm=0.5)
        for _ in range(3):
            loss = model(torch.randn(8, 5)).square().mean()
            skipped = None if skip is None else torch.tensor(skip)
            optimizer.step(loss, 1e-2, reduce=lambda gradient: gradient, skip=skipped)
        return [optimizer.flat.detach().clone(), *(x.clone() for x in optimizer.state_dict().values())]

    with_it = trained()
    monkeypatch.setattr(optim, "FUSED_ADAM", None)
    for mine, wanted in zip(trained(), with_it, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-6, atol=1e-7)


def test_copies_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_foreach_copy_")
    recorded = Recorded(lambda tree: tree["a"] + tree["b"])
    monkeypatch.setattr(recorded, "_run_aside", lambda places: recorded.function(*places))
    for number in (1.0, 2.0):
        a, b = torch.full((3,), number), torch.ones(3)
        assert torch.equal(recorded({"a": a, "b": b}), a + b)


def test_compiling_without_private_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_inductor_options", lambda: ())  # as of torch 2.11, which lacks one
    assert "cpp.march" not in compiled._vectorizing()
    monkeypatch.undo()
    assert compiled.can_lower(torch.device("cpu"))
    for name in (
        "torch._inductor",
        "torch._inductor.compile_fx",
        "torch._inductor.cpp_builder",
        "torch._dynamo.callback",
        "torch.utils._triton",
    ):
        no_module(monkeypatch, name)
    monkeypatch.setattr(compiled.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert compiled._vectorizing() == {}
    assert not compiled.can_lower(torch.device("cpu"))
    check_compiler(torch.device("cpu"))
    assert CompileClock().seconds == 0.0
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler"):
        check_compiler(torch.device("cpu"))
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    for kind in ("cuda", "xpu"):
        with pytest.raises(ConfigError, match="no Triton"):
            check_compiler(torch.device(kind))
    monkeypatch.setattr(compiled, "find_spec", lambda name: object())
    for kind in ("cuda", "xpu", "mps"):
        check_compiler(torch.device(kind))


def test_it_compiles_here() -> None:
    """What the options come to is something that this torch takes."""
    clock = CompileClock()
    double = fused(lambda x: x + x, device=torch.device("cpu"))
    assert torch.equal(double(torch.ones(3)), torch.full((3,), 2.0))
    assert clock.seconds > 0
    torch.compiler.reset()
