"""LiteRT, once TensorFlow Lite: writes a policy and runs it. Alone in importing its libraries."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rltrain.errors import ConfigError
from rltrain.export.signature import Signature
from rltrain.export.whole_policy import WholePolicy, quietly


def need() -> None:
    """Checks that the libraries are installed.

    Raises:
        ConfigError: One is not.
    """
    for name, package in (("litert_torch", "litert-torch"), ("ai_edge_litert", "ai-edge-litert")):
        if find_spec(name) is None:
            fix = "Run: pip install 'rltrain[litert]', in an environment of its own: it needs other versions than ours."
            raise ConfigError(f"The package {package} is not installed.", fix)


def write(module: WholePolicy, path: Path) -> None:
    """Writes a policy, a narrow one, for one observation at a time: LiteRT wants all shapes beforehand.

    Raises:
        ConfigError: It has a network that cannot be exported.
        OSError: It cannot be written.
    """
    import litert_torch
    import torch

    example = tuple(torch.from_numpy(each) for each in module.examples(1).values())
    try:
        with quietly():
            model = litert_torch.convert(module, example)
    except Exception as error:  # of many kinds
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(f"LiteRT has no operators for this policy: {why}", "Export it by --to onnx.") from error
    model.export(str(path))


class LiteRTModel:
    """A policy in LiteRT, run by its interpreter.

    Args:
        path: The file.
        signature: Its inputs and outputs.
    """

    def __init__(self, path: Path, signature: Signature) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._runner = Interpreter(model_path=str(path)).get_signature_runner()
        self._dtypes = [array.dtype for array in signature.inputs]
        self._outputs = [array.name for array in signature.outputs]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name for one row of the inputs."""
        typed = [array.astype(dtype, copy=False) for array, dtype in zip(inputs.values(), self._dtypes, strict=True)]
        given = {f"args_{number}": array for number, array in enumerate(typed)}
        out = self._runner(**given)
        return {name: out[f"output_{number}"] for number, name in enumerate(self._outputs)}
