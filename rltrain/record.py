"""Films: an episode as frames, frames as GIF or MP4."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.rng import derive_seed, make_generator
from rltrain.spaces import random_actions
from rltrain.vec import TensorVecEnv

MAX_FRAMES = 2_000  # of a film of an environment without a time limit
GIF_FRAMES = 250  # a GIF shows at most this many; more are thinned out, at the same speed


@torch.no_grad()
def record_episode(vec: TensorVecEnv, choose_action: Callable[[Observation], Tensor], *, seed: int) -> list[Tensor]:
    """The frames of one episode, from its first state to its last.

    Steps the environment itself, not the vectorised one, whose automatic reset would hide the last state.

    Args:
        vec: Which environment, and its time limit; not stepped.
        choose_action: Actions (1, *A) for observations (1, *O).
        seed: Of the environment.

    Returns:
        Frames (H, W, 3) uint8, one more than the episode has steps.
    """
    env = vec.env
    rng = make_generator(vec.device, derive_seed(seed, "env"))
    state = env.reset(1, rng)
    frames = [env.render(state, 0)]
    for _ in range(vec.max_episode_steps or MAX_FRAMES):
        state, _, terminated = env.step(state, choose_action(env.full_observe(state)), rng)
        frames.append(env.render(state, 0))
        if bool(terminated):
            break
    return frames


def film_random(vec: TensorVecEnv, out: Path, *, seed: int) -> int:
    """Films an episode of random actions and returns its number of steps."""
    check_video_path(out)
    rng = make_generator(vec.device, derive_seed(seed, "actions"))

    def choose(obs: Observation) -> Tensor:
        if isinstance(obs, dict) and "action_mask" in obs:
            return (torch.rand(obs["action_mask"].shape, generator=rng) * obs["action_mask"]).argmax(-1)
        return random_actions(vec.single_action_space, 1, vec.device, rng)

    frames = record_episode(vec, choose, seed=seed)
    write_video(out, frames, vec.env.render_fps)
    return len(frames) - 1


def check_video_path(path: Path) -> None:
    """Refuses what :func:`write_video` could not write, before anything is played.

    Raises:
        ConfigError: The ending is neither .gif nor .mp4, or there is no such folder.
    """
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise ConfigError(f"'{path}' is no film: it ends neither in .gif nor in .mp4.", "Name it film.gif or film.mp4.")
    if not path.parent.is_dir():
        raise ConfigError(f"There is no folder '{path.parent}' to write '{path.name}' into.", "Make it first.")


def write_video(path: Path, frames: Sequence[Tensor | np.ndarray], fps: int) -> None:
    """Writes frames (H, W, 3) uint8 as GIF or MP4, by the ending of the path.

    Raises:
        ConfigError: The path cannot be written, or has another ending.
    """
    check_video_path(path)
    arrays = [np.asarray(frame) for frame in frames]
    with _replacing(path) as temporary:
        (write_gif if path.suffix.lower() == ".gif" else write_mp4)(temporary, arrays, fps)


def write_gif(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    """Writes an endless GIF. Browsers show at most 50 frames a second, so more are thinned out."""
    from PIL import Image

    stride = max(1, -(-fps // 25), -(-len(frames) // GIF_FRAMES))
    kept = [*frames[:-1:stride], frames[-1]]
    images = [Image.fromarray(frame) for frame in kept]
    # One palette for all: smaller, and colours do not flicker.
    colours = Image.fromarray(np.concatenate([kept[i] for i in (0, len(kept) // 2, -1)])).quantize(128)
    paletted = [image.quantize(palette=colours, dither=Image.Dither.NONE) for image in images]
    duration = round(1000 * stride / fps)
    paletted[0].save(path, save_all=True, append_images=paletted[1:], duration=duration, loop=0, optimize=True)


def write_mp4(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    """Writes H.264 in a form that every browser plays; sides are padded to even numbers, as it asks for."""
    from imageio_ffmpeg import write_frames

    height, width = frames[0].shape[:2]
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    size = (width + width % 2, height + height % 2)
    writer = write_frames(str(path), size, fps=fps, macro_block_size=1, codec="libx264", pix_fmt_out="yuv420p")
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(np.pad(frame, padding, mode="edge")))
    writer.close()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well."""
    temporary = path.with_name(f".writing-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be written: {error.strerror}.", "Choose another --out.") from error
    finally:
        temporary.unlink(missing_ok=True)
