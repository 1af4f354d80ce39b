"""What other libraries' environments draw, as pictures (H, W, 3) uint8."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def picture_of(drawn: Any) -> NDArray[np.uint8] | None:
    """A copy of what ``render()`` returned as a picture (H, W, 3) uint8; None if it is not a picture.

    Args:
        drawn: An array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or with the channels first; of bytes, or of floating-
            point numbers from 0 to 1 or to 255. Of a list of pictures the last is taken. What is transparent becomes
            white.
    """
    if isinstance(drawn, list | tuple):
        return picture_of(drawn[-1]) if drawn else None
    if drawn is None or isinstance(drawn, str | bytes):
        return None
    try:
        array = np.asarray(drawn)
    except (TypeError, ValueError):
        return None
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3) or 0 in array.shape:
        return None
    array = _in_bytes(array)
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    channels = array.shape[2]
    if channels == 4:
        share = array[:, :, 3:].astype(np.float32) / 255
        array = np.rint(array[:, :, :3] * share + 255 * (1 - share)).astype(np.uint8)
    elif channels not in (1, 3):
        return None
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))  # a copy: some environments draw into one array


def _in_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "f":
        array = np.nan_to_num(array, nan=0.0)
        array = np.rint(array * 255 if array.max() <= 1 else array)
    return array.clip(0, 255).astype(np.uint8)
