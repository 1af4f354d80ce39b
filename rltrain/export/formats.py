"""What ``rltrain export RUN --to onnx|pt2|jax|litert`` calls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rltrain.export.job import Job
from rltrain.export.whole_policy import trace
from rltrain.storage.digests import entry_of


def onnx(
    run: str | Path,
    out: str | Path | None = None,
    *,
    checkpoint: str = "latest",
    int8: bool = False,
    episodes: int = 100,
) -> dict[Path, str]:
    """Writes a policy as ONNX.

    Args:
        run: A run folder, or a checkpoint directory in it.
        out: The file; if None, one in the run folder, named by its step.
        checkpoint: ``latest``, ``best``, or a step.
        int8: Whether to write another file with weights of 8 bits beside it, and measure what they cost.
        episodes: Episodes in which that is measured.

    Returns:
        By file that was written, its size and latency.

    Raises:
        ConfigError: The policy has a network that cannot be exported, a library is missing, or ``out`` cannot be used.
        CheckpointError: There is no such run or checkpoint.
    """
    from rltrain.export import onnx_file

    onnx_file.need()
    job = Job(run, out, ".onnx", checkpoint=checkpoint)
    with job.writing() as temporary:
        onnx_file.write(job.module, temporary)
    facts = {"opset": onnx_file.OPSET, "packages": ("onnx", "onnxscript", "onnxruntime")}
    model = onnx_file.OnnxModel(job.path, job.module.signature)
    written = {job.path: job.finish("onnx", model.run, "onnxruntime", facts)}
    if int8:
        from rltrain.export.score import loss_of_score

        small = job.path.with_name(f"{job.path.stem}_int8.onnx")
        with job.writing(small) as temporary:
            onnx_file.quantize(job.path, temporary)
        quantized = onnx_file.OnnxModel(small, job.module.signature)
        loss, text = loss_of_score(job.policy, model, quantized, episodes)
        facts |= {"weights": "int8", "score": loss}
        written[small] = f"{job.finish('onnx', quantized.run, 'onnxruntime', facts, small)}; {text}"
    return written


def pt2(run: str | Path, out: str | Path | None = None, *, checkpoint: str = "latest") -> dict[Path, str]:
    """Writes a policy for ``torch.export.load``; see :func:`onnx` for arguments, result and errors."""
    import torch

    job = Job(run, out, ".pt2", checkpoint=checkpoint)
    program = trace(job.module)
    with job.writing() as temporary:
        torch.export.save(program, temporary)
    graph = torch.export.load(job.path).module()
    names = [array.name for array in job.module.signature.outputs]

    def call(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = graph(*(torch.from_numpy(array) for array in inputs.values()))
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}

    return {job.path: job.finish("pt2", call, "torch.export.load(FILE).module()", {})}


def jax(run: str | Path, out: str | Path | None = None, *, checkpoint: str = "latest") -> dict[Path, str]:
    """Writes a policy as a Python file for JAX, and its parameters beside it; see :func:`onnx`."""
    from rltrain.export import jax_file

    job = Job(run, out, ".py", checkpoint=checkpoint)
    jax_file.need()
    title = f"{job.policy.config.algo} in {job.policy.config.env.id} after {job.policy.step:,} steps."
    source, tensors = jax_file.source_and_tensors(job.module, title)
    parameters = job.path.with_suffix(".safetensors")
    with job.writing(parameters) as temporary:
        jax_file.write_tensors(tensors, temporary)
    with job.writing() as temporary:
        temporary.write_text(source, encoding="utf-8")
    call = jax_file.runner(job.module, job.path)
    facts = {"parameters": parameters.name, "parameters_sha256": entry_of(parameters)["sha256"], "packages": ("jax",)}
    size = parameters.stat().st_size
    return {
        job.path: job.finish("jax", call, "jax.jit(forward)", facts),
        parameters: f"{size:,} bytes, which load() of the other file reads",
    }


def litert(run: str | Path, out: str | Path | None = None, *, checkpoint: str = "latest") -> dict[Path, str]:
    """Writes a policy for LiteRT; see :func:`onnx`."""
    from rltrain.export import litert_file

    litert_file.need()
    job = Job(run, out, ".tflite", checkpoint=checkpoint, narrow=True)
    with job.writing() as temporary:
        litert_file.write(job.module, temporary)
    call = litert_file.LiteRTModel(job.path, job.module.signature).run
    facts = {"packages": ("litert-torch", "ai-edge-litert"), "rows": 1}
    return {job.path: job.finish("litert", call, "LiteRT", facts, rows=(1,))}
