"""Writes a whole policy for other libraries: ONNX, torch.export, JAX and LiteRT; and runs what was written.

One module is the whole policy: the normaliser, the networks, the mask, the recurrent state as inputs and outputs, and
the conversion to the environment's own actions. Importing this imports neither torch nor any of those libraries.
"""

from __future__ import annotations

from rltrain.plugins import register_exporter


def register_formats() -> None:
    """Registers the formats; called through the entry-point group ``rltrain.exporters``."""
    for name, what in {
        "onnx": "ONNX, for onnxruntime and others [<run>/<algo>_<step>.onnx]",
        "pt2": "torch.export, for torch alone [<run>/<algo>_<step>.pt2]",
        "jax": "parameters in safetensors, and a Python file with the function [<run>/<algo>_<step>_jax.py]",
        "litert": "LiteRT, once TensorFlow Lite [<run>/<algo>_<step>.tflite]",
    }.items():
        options = ("int8", "episodes") if name == "onnx" else ()
        register_exporter(name, f"rltrain.export.formats:{name}", description=what, options=options)
