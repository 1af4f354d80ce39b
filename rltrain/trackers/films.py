"""Films as animated GIFs, small enough to be shown among pictures."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 400
"""Pixels of the longer side at most."""
FPS = 15.0
"""Pictures a second at most."""
PICTURES = 240
"""Pictures at most; of a longer film some are left out, and the others are shown longer."""
LIMIT = 2 * 2**20
"""Bytes at most."""


def animation(path: Path) -> tuple[bytes, int, int]:
    """An mp4 file as a GIF that repeats endlessly, and its width and height. Its length in seconds is that of the film.

    Raises:
        OSError: The film cannot be read.
        ValueError: It has no pictures, or its GIF is too large even with a few of them.
    """
    pictures, seconds = _read(path)
    while True:
        gif = _encoded(pictures, seconds)
        if len(gif) <= LIMIT:
            return gif, *pictures[0].size
        if len(pictures) < 8:
            raise ValueError(f"its GIF has more than {LIMIT:,} bytes")
        pictures, seconds = pictures[::2], 2 * seconds


def _read(path: Path) -> tuple[list[Image.Image], float]:
    """Pictures of a film, and the seconds that each is shown."""
    import imageio_ffmpeg

    frames = imageio_ffmpeg.read_frames(str(path))
    try:
        facts = next(frames)
        width, height = facts["size"]
        fps = float(facts["fps"])
        every = max(1, round(fps / FPS))
        scale = min(1.0, SIDE / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pictures: list[Image.Image] = []
        for number, frame in enumerate(frames):
            if number % every:
                continue
            picture = Image.fromarray(np.frombuffer(frame, np.uint8).reshape(height, width, 3))
            pictures.append(picture.resize(size, Image.Resampling.BILINEAR) if scale < 1.0 else picture)
            if len(pictures) > PICTURES:
                pictures, every = pictures[::2], 2 * every
    finally:
        frames.close()
    if not pictures:
        raise ValueError("it has no pictures")
    return pictures, every / fps


def _encoded(pictures: list[Image.Image], seconds: float) -> bytes:
    """A GIF of pictures with one palette, so that colours do not flicker."""
    chosen = np.linspace(0, len(pictures) - 1, min(8, len(pictures))).round().astype(int)
    sample = Image.fromarray(np.concatenate([np.asarray(pictures[i]) for i in chosen]))
    palette = sample.quantize(128, Image.Quantize.FASTOCTREE)
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    times = [round(100 * number * seconds) for number in range(len(pictures) + 1)]  # GIF counts hundredths of a second
    shown = [10 * max(2, after - before) for before, after in pairwise(times)]
    content = BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=shown, loop=0, optimize=True)
    return content.getvalue()
