"""Pictures as GIF and MP4 files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rltrain.errors import ConfigError
from rltrain.evaluation.files import writing
from rltrain.evaluation.frames import Reel
from rltrain.process.stopping import check

Frame: TypeAlias = Tensor | NDArray[np.uint8]
"""A picture (H, W, 3) uint8."""

MAX_GIF_FPS = 30
"""More makes the file large, and above 50 viewers slow it down."""


def write_video(path: Path, frames: Iterable[Frame], fps: float) -> None:
    """Writes frames to a GIF or an MP4, by the ending of the name.

    Raises:
        ConfigError: The name has another ending, or the file cannot be written.
    """
    writers = {".gif": write_gif, ".mp4": write_mp4}
    writers[check_suffix(path)](path, frames, fps)


def write_gif(path: Path, frames: Iterable[Frame], fps: float) -> None:
    """Writes an endlessly repeating GIF.

    Above 30 frames per second some are left out, but never the last. GIF counts time in hundredths of a second: delays
    are rounded so that the whole film keeps its length. Frames that look the same are stored once and shown longer.

    Args:
        path: The file; an existing one is replaced.
        frames: Pictures (H, W, 3) uint8, all of one size.
        fps: Frames per second.

    Raises:
        ConfigError: The file cannot be written.
    """
    with writing(path) as temporary:
        pictures = Reel(_arrays(frames))
        shown = [*range(0, len(pictures) - 1, math.ceil(fps / MAX_GIF_FPS)), len(pictures) - 1]
        times = [round(100 * index / fps) for index in (*shown, len(pictures))]  # hundredths of a second
        palette = _palette(pictures, shown)
        first, *others = (
            Image.fromarray(pictures[i]).quantize(palette=palette, dither=Image.Dither.NONE) for i in shown
        )
        first.save(
            temporary,
            save_all=True,
            append_images=others,
            duration=[10 * max(2, after - before) for before, after in pairwise(times)],
            loop=0,
            optimize=True,
        )


def write_mp4(path: Path, frames: Iterable[Frame], fps: float) -> None:
    """Writes an H.264 MP4 that browsers play; an odd width or height gets one more pixel at its end.

    Args:
        path: The file; an existing one is replaced.
        frames: Pictures (H, W, 3) uint8, all of one size.
        fps: Frames per second.

    Raises:
        ConfigError: The file cannot be written, or there is no ffmpeg.
    """
    import imageio_ffmpeg

    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise ConfigError("There is no ffmpeg to write an MP4 with.", "Install ffmpeg, or write a .gif.") from error
    with writing(path) as temporary:
        writer = None
        try:
            for picture in _arrays(frames):
                height, width, _ = picture.shape
                even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                if writer is None:
                    writer = imageio_ffmpeg.write_frames(
                        str(temporary),
                        (even.shape[1], even.shape[0]),
                        fps=fps,
                        quality=8,
                        macro_block_size=1,  # any other makes ffmpeg stretch the picture
                        ffmpeg_log_level="error",
                        output_params=["-movflags", "+faststart"],
                    )
                    writer.send(None)
                writer.send(np.ascontiguousarray(even))
        finally:
            if writer is not None:
                writer.close()
        if not temporary.stat().st_size:
            raise OSError("ffmpeg wrote nothing")


def check_suffix(path: Path) -> str:
    """The ending of a film's name, ``.gif`` or ``.mp4``.

    Raises:
        ConfigError: It has another ending.
    """
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise ConfigError(f"'{path}' is neither a GIF nor an MP4.", "Give the file a name that ends in .gif or .mp4.")
    return suffix


def _arrays(frames: Iterable[Frame]) -> Iterator[NDArray[np.uint8]]:
    """The frames as arrays, checked.

    Raises:
        ValueError: There are none, or one is not (H, W, 3) uint8 of the size of the first.
        Stopped: A signal asked for it.
    """
    shape = None
    for frame in frames:
        check()
        array = frame.cpu().numpy() if isinstance(frame, Tensor) else frame
        shape = shape or array.shape
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape != (*shape[:2], 3):
            raise ValueError(f"a frame is {array.dtype} {array.shape}, not uint8 (H, W, 3) of the size of the first")
        yield array
    if shape is None:
        raise ValueError("there are no frames to write")


def _palette(pictures: Reel, shown: list[int], samples: int = 16) -> Image.Image:
    """One palette for all pictures that are shown, so that colours do not flicker; computed from a sample of them.

    It uses an octree: on flat drawings its error is a third of that of Pillow's default, the median cut.
    """
    chosen = np.linspace(0, len(shown) - 1, min(samples, len(shown))).round().astype(int)
    sample = np.concatenate([pictures[shown[number]] for number in chosen])
    return Image.fromarray(sample).quantize(256, Image.Quantize.FASTOCTREE)
