"""Prepares pictures for a film: kept packed, one size for all, small ones enlarged, and a line of text below."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rltrain.adapters.frames import picture_of
from rltrain.errors import ConfigError
from rltrain.vec import VecEnv

Picture = NDArray[np.uint8]  # (H, W, 3)

TINY, ENLARGED = 128, 256
"""Pictures whose longer side has fewer pixels are enlarged to at least so many."""
STRIP = 18  # pixels of the line of text
INK, PAPER = (235, 235, 235), (24, 26, 30)


def draw(vec: VecEnv, row: int = 0) -> Picture:
    """A copy of the picture of one of the environments, by default the first.

    Raises:
        ConfigError: It cannot be drawn.
    """
    drawn = vec.render(row)
    picture = picture_of(drawn.cpu().numpy() if hasattr(drawn, "cpu") else drawn)
    if picture is None:
        shape = tuple(getattr(drawn, "shape", ()))
        raise ConfigError(
            f"What is drawn is no picture: {type(drawn).__name__} {shape}.", "Its render must return one (H, W, 3)."
        )
    return picture


def enlarged(picture: Picture) -> Picture:
    """A tiny picture with each pixel repeated; any other as it is."""
    longer = max(picture.shape[:2])
    if longer >= TINY:
        return picture
    factor = -(-ENLARGED // longer)
    return picture.repeat(factor, 0).repeat(factor, 1)


class Reel:
    """Pictures of a film that are kept until it is written: packed, since an episode of them may take gigabytes.

    They come out in one size, the largest of each side; smaller ones get black margins.

    Args:
        pictures: The first of them.

    Attributes:
        colour: The only colour of all of them, red, green and blue; None if there are several, or no picture yet.
    """

    def __init__(self, pictures: Iterable[Picture] = ()) -> None:
        self._packed: list[tuple[tuple[int, int], bytes]] = []
        self._size = 0, 0
        self.colour: tuple[int, int, int] | None = None
        for picture in pictures:
            self.append(picture)

    def append(self, picture: Picture) -> None:
        """Adds a picture (H, W, 3) uint8."""
        height, width, _ = picture.shape
        if not self._packed or self.colour is not None:
            red, green, blue = map(int, picture[0, 0])
            alike = self.colour in (None, (red, green, blue)) and (picture == picture[0, 0]).all()
            self.colour = (red, green, blue) if alike else None
        self._packed.append(((height, width), zlib.compress(picture.tobytes(), 1)))
        self._size = max(self._size[0], height), max(self._size[1], width)

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, index: int) -> Picture:
        size, packed = self._packed[index]
        picture = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(*size, 3)
        if size == self._size:
            return picture
        whole = np.zeros((*self._size, 3), np.uint8)
        top, left = ((whole.shape[side] - size[side]) // 2 for side in (0, 1))
        whole[top : top + size[0], left : left + size[1]] = picture
        return whole


def warn_of_one_colour(reel: Reel) -> None:
    """Warns if all pictures are of one colour, which is seldom meant, and says what may help."""
    if reel.colour is None:
        return
    fix = "Look at what its render() returns; arguments of its constructor (--env.kwargs) may turn drawing on."
    if os.environ.get("SDL_VIDEODRIVER") == "dummy":
        fix = "Unset SDL_VIDEODRIVER, which is 'dummy', or set it to offscreen: some environments draw nothing then."
    elif set_to := os.environ.get("MUJOCO_GL"):
        fix = f"MUJOCO_GL is '{set_to}': try another one, egl or osmesa. {fix}"
    red, green, blue = reel.colour
    warnings.warn(
        f"The film has one colour only, #{red:02x}{green:02x}{blue:02x}: nothing is drawn. {fix}", stacklevel=3
    )


def captioned(picture: Picture, text: str, share: float) -> Picture:
    """A picture with a line of text and a bar below it.

    Args:
        picture: The picture.
        text: The text; what is too long for the picture's width is not shown.
        share: How much of the width the bar takes, from 0 to 1.
    """
    height, width, _ = picture.shape
    image = Image.new("RGB", (width, height + STRIP), PAPER)
    image.paste(Image.fromarray(picture), (0, 0))
    pen = ImageDraw.Draw(image)
    pen.text((4, height + 4), text, fill=INK, font=ImageFont.load_default())
    if (filled := round(width * min(share, 1.0))) > 0:
        pen.rectangle((0, height, filled - 1, height + 1), fill=INK)
    return np.asarray(image)
