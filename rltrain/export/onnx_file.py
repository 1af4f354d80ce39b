"""ONNX: writes a policy, quantises it, and runs it by onnxruntime. Alone in importing these libraries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.errors import ConfigError
from rltrain.export.signature import Signature
from rltrain.export.whole_policy import WholePolicy, quietly, trace
from rltrain.naming import installed

OPSET = 20
"""The version of ONNX's operators that files are written for."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def need(*packages: str) -> None:
    """Checks that libraries are installed: all of them, or those named.

    Raises:
        ConfigError: One is not.
    """
    installed.need(*(packages or PACKAGES), install="rltrain[onnx]")


def write(module: WholePolicy, path: Path) -> None:
    """Writes a policy as ONNX.

    Raises:
        ConfigError: It has a network that cannot be exported.
        OSError: It cannot be written.
    """
    import torch

    graph = trace(module)
    names: dict[str, Any] = {
        "input_names": [array.name for array in module.signature.inputs],
        "output_names": [array.name for array in module.signature.outputs],
    }
    try:
        with quietly():
            program = torch.onnx.export(graph, dynamo=True, opset_version=OPSET, verbose=False, **names)
    except Exception as error:  # of many kinds
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(f"ONNX has no operators for this policy: {why}", "Export it by --to pt2.") from error
    assert program is not None
    path.write_bytes(program.model_proto.SerializeToString())


def quantize(source: Path, target: Path) -> None:
    """Writes a policy with weights of 8 bits, and activations quantised as they come.

    Raises:
        OSError: It cannot be written.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quietly():
        quantize_dynamic(source, target, weight_type=QuantType.QInt8)


class OnnxModel:
    """A policy in ONNX, run by onnxruntime on the CPU by one thread.

    Args:
        source: The file, or its content.
        signature: Its inputs and outputs.

    Raises:
        ConfigError: onnxruntime is not installed, or cannot run it.
    """

    def __init__(self, source: Path | bytes, signature: Signature) -> None:
        need("onnxruntime")
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        content = source if isinstance(source, bytes) else str(source)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            known = [[each.name for each in side] for side in (self._session.get_inputs(), self._session.get_outputs())]
        except Exception as error:  # of onnxruntime's own kinds
            why = str(error).strip().partition("\n")[0]
            raise ConfigError(f"onnxruntime cannot run this file: {why}", "Export the policy again.") from error
        self._inputs, self._outputs = signature.inputs, [array.name for array in signature.outputs]
        if known[1] != self._outputs or not set(known[0]) <= {array.name for array in self._inputs}:
            raise ConfigError(f"The file takes {known[0]} and gives {known[1]}.", "Export the policy again.")
        self._taken = set(known[0])  # an input that changes nothing may be left out

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, for inputs by name: N rows of each."""
        taken = {name: array for name, array in inputs.items() if name in self._taken}
        return dict(zip(self._outputs, self._session.run(self._outputs, taken), strict=True))
