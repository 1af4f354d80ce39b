"""JAX: the parameters of a policy in safetensors, and a Python file with its function.

The file is written from the graph that torch.export traces, an operator a line, and needs JAX and safetensors alone.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, fx

from rltrain.errors import ConfigError
from rltrain.export.jax_ops import HELPERS, OPS, SKIPPED
from rltrain.export.signature import START, STATE
from rltrain.export.whole_policy import WholePolicy, trace
from rltrain.naming import installed
from rltrain.tree import leaves

SIGNS = {"mul": "*", "add": "+", "sub": "-", "floordiv": "//"}  # between sizes
PARAMETERS, CONSTANTS = "parameters", "constants"
HEAD = '''"""{title}

Written by rltrain from a trained policy. forward() is a pure function: jax.jit, jax.vmap and jax.grad take it. The
gradient with respect to params["parameters"] is that of training; params["constants"] are statistics and bounds.
"""

import jax
import jax.numpy as jnp
from safetensors.numpy import load_file

{helpers}

def load(path):
    """The parameters, a pytree of two dicts, from the .safetensors file beside this one."""
    params = {{"parameters": {{}}, "constants": {{}}}}
    for name, array in load_file(path).items():
        kind, _, rest = name.partition(".")
        params[kind][rest] = jnp.asarray(array)
    return params


def initial_state(rows):
    """The recurrent state of so many rows at the start of an episode; None without memory."""
    return {initial}


def forward(params, obs, state=None, episode_start=None):
    """The most likely actions for observations as the environment gives them, N rows of each part.

    Args:
        params: What load() gave.
        obs: {observations}
        state: What the previous call gave; None at the start of all episodes.
        episode_start: (N,) bool, where an episode begins and the state is reset; None for nowhere.

    Returns:
        Actions (N, ...) and the state to act with next.
    """
    p, c = params["parameters"], params["constants"]
'''


def source_and_tensors(module: WholePolicy, title: str) -> tuple[str, dict[str, Tensor]]:
    """The Python file, and the tensors that it reads, by name.

    Raises:
        ConfigError: The policy has a network that cannot be traced, or an operator that there is no expression for.
    """
    program = trace(module).run_decompositions()
    spec = program.graph_signature
    known = {**program.state_dict, **program.constants}
    places, tensors = {}, {}
    of_parameters, of_others = (
        spec.inputs_to_parameters,
        {**spec.inputs_to_buffers, **spec.inputs_to_lifted_tensor_constants},
    )
    for kind, short, table in ((PARAMETERS, "p", of_parameters), (CONSTANTS, "c", of_others)):
        for node, name in table.items():
            places[node] = f"{short}[{name!r}]"
            tensors[f"{kind}.{name}"] = known[name].detach().contiguous().clone()
    given = iter(_places(module))
    lines, names = list(_prelude(module)), dict(places)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in places:
                continue
            place, dtype = next(given)
            names[node.name] = _safe(node.name)
            lines.append(f"{names[node.name]} = _cast({place}, {dtype!r})")
        elif node.op == "call_function" and not _is_check(node):
            names[node.name] = _safe(node.name)
            lines.append(f"{names[node.name]} = {_expression(node, names)}")
        elif node.op == "output":
            lines.append(_answer(module, [names[each.name] for each in node.args[0]]))
    head = HEAD.format(
        title=title, helpers=HELPERS.strip("\n") + "\n", initial=_initial(module), observations=_in_words(module)
    )
    return head + "".join(f"    {line}\n" for line in lines), tensors


def _places(module: WholePolicy) -> list[tuple[str, str]]:
    """Where each input is found, and its type."""
    found = []
    for array, leaf in zip(module.signature.observations, module.translation.leaves, strict=True):
        found.append(("obs" + "".join(f"[{key!r}]" for key in leaf.path), array.dtype))
    for array in module.signature.inputs[len(found) :]:
        head, _, part = array.name.partition(".")
        found.append((f"state[{part!r}]" if part else head, array.dtype))
    return found


def _prelude(module: WholePolicy) -> list[str]:
    if not module.signature.state:
        return []
    first = "obs" + "".join(f"[{key!r}]" for key in module.translation.leaves[0].path)
    return [
        f"rows = {first}.shape[0]",
        "state = initial_state(rows) if state is None else state",
        "episode_start = jnp.zeros(rows, bool) if episode_start is None else episode_start",
    ]


def _initial(module: WholePolicy) -> str:
    """The state at the start of an episode, which is one row of it repeated."""
    parts = {}
    flat = iter(leaves(module.initial))
    for array in module.signature.state:
        row = next(flat)[0].numpy()
        value = f"jnp.full((rows, *{array.shape}), {row.flat[0].item()!r}, {array.dtype!r})"
        if row.size and np.any(row != row.flat[0]):
            value = f"jnp.tile(jnp.asarray({row.tolist()}, {array.dtype!r}), (rows,) + (1,) * {len(array.shape)})"
        parts[array.name.removeprefix(STATE).removeprefix(".")] = value
    if not parts:
        return "None"
    if "" in parts:
        return parts[""]
    return "{" + ", ".join(f"{name!r}: {value}" for name, value in parts.items()) + "}"


def _in_words(module: WholePolicy) -> str:
    return ", ".join(
        f"{array.name} {array.dtype} (N{''.join(f', {side}' for side in array.shape)})"
        for array in module.signature.observations
    )


def _answer(module: WholePolicy, names: list[str]) -> str:
    action, *state = names
    parts = [array.name.removeprefix(STATE).removeprefix(".") for array in module.signature.state]
    if not parts:
        return f"return {action}, None"
    if parts == [""]:
        return f"return {action}, {state[0]}"
    return f"return {action}, {{{', '.join(f'{part!r}: {name}' for part, name in zip(parts, state, strict=True))}}}"


def _expression(node: fx.Node, names: Mapping[str, str]) -> str:
    """What a node computes."""

    def written(value: Any) -> str:
        match value:
            case fx.Node():
                return names[value.name]
            case list() | tuple():
                return f"[{', '.join(map(written, value))}]"
            case torch.dtype():
                return repr(str(value).removeprefix("torch."))
            case float() if value != value or value in (np.inf, -np.inf):
                return f"float('{value}')"
        return repr(value)

    name = _operator(node)
    arguments = [written(each) for each in node.args]
    if name == "getitem":
        return f"{arguments[0]}[{arguments[1]}]"
    if name in SIGNS and len(arguments) == 2 and not node.kwargs and _is_host(node):
        return f"{arguments[0]} {SIGNS[name]} {arguments[1]}"
    named = {key: written(each) for key, each in node.kwargs.items() if key not in ("device", "layout", "pin_memory")}
    try:
        return OPS[name](*arguments, **named)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"There is no counterpart in JAX for torch's {node.target}, which this policy uses.",
            "Export it by --to onnx or --to pt2.",
        ) from error


def _operator(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).partition(".")[0]


def _is_host(node: fx.Node) -> bool:
    """Whether a node computes a size rather than a tensor."""
    return getattr(node.target, "__module__", "") == "_operator"


def _is_check(node: fx.Node) -> bool:
    return _operator(node) in SKIPPED


def _safe(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) or name in ("p", "c", "obs", "state", "rows", "params") else name


def need() -> None:
    """Checks that JAX is installed, with which what was written is tried.

    Raises:
        ConfigError: It is not.
    """
    installed.need("jax", install="jax")


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes the parameters.

    Raises:
        OSError: They cannot be written.
    """
    path.write_bytes(save(dict(tensors)))


def runner(module: WholePolicy, path: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """What was written, from inputs by name to outputs by name."""
    import jax

    space: dict[str, Any] = {}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)  # our own words, written just now
    params, forward = space["load"](path.with_suffix(".safetensors")), jax.jit(space["forward"])
    outputs = [array.name for array in module.signature.outputs]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = list(inputs.values())
        obs = nested({leaf.path: array for leaf, array in zip(module.translation.leaves, given, strict=False)})
        more: list[Any] = []
        if module.signature.state:
            parts = {array.name.partition(".")[2]: inputs[array.name] for array in module.signature.state}
            more = [parts.get("", parts), inputs[START]]
        action, state = forward(params, obs, *more)
        flat = [] if state is None else list(state.values()) if isinstance(state, dict) else [state]
        return dict(zip(outputs, map(np.asarray, (action, *flat)), strict=True))

    return run


def nested(parts: Mapping[tuple[str | int, ...], Any]) -> Any:
    """The arrays of an observation in dicts: those of a tuple by their indices, which serves as well."""
    if () in parts:
        return parts[()]
    heads = dict.fromkeys(path[0] for path in parts)
    return {head: nested({path[1:]: each for path, each in parts.items() if path[0] == head}) for head in heads}
