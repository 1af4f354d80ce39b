"""Videos: every state of an episode, and files that show what was drawn."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from torch import Tensor

from rltrain.env import TensorEnv
from rltrain.errors import ConfigError
from rltrain.evaluation.baselines import baseline_policy
from rltrain.evaluation.frames import Reel
from rltrain.evaluation.video import film, record_episode
from rltrain.evaluation.video_files import write_gif, write_mp4, write_video
from rltrain.vec import TensorVecEnv

COLOURS = ((255, 0, 0), (0, 160, 0), (0, 0, 255), (250, 250, 250), (20, 20, 20))


def flags(n: int, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    """Frames in one colour after the other, with a white bar that wanders."""
    frames = []
    for i in range(n):
        frame = np.empty((height, width, 3), dtype=np.uint8)
        frame[:] = COLOURS[i % len(COLOURS)]
        frame[:, i % width] = 128
        frames.append(frame)
    return frames


def decode_mp4(path: Path) -> tuple[dict[str, object], list[NDArray[np.uint8]]]:
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]


class Ladder(TensorEnv[Tensor]):
    """Climbs by the action; ends on the given rung. A picture's brightness is the rung."""

    observation_space = spaces.Box(0, 100, (1,))
    action_space = spaces.Discrete(3)

    def __init__(self, *, top: int = 5, masked: bool = False, device: str = "cpu") -> None:
        super().__init__(device=device)
        self.top, self.masked = top, masked

    def reset(self, n: int, rng: torch.Generator | None) -> Tensor:
        return torch.zeros(n)

    def step(self, state: Tensor, action: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        state = state + action
        return state, torch.ones_like(state), state >= self.top

    def observe(self, state: Tensor) -> Tensor:
        return state[:, None]

    def render(self, state: Tensor, index: int = 0) -> Tensor:
        return torch.full((4, 6, 3), int(state[index]), dtype=torch.uint8)


class MaskedLadder(Ladder):
    """May only climb by two."""

    def action_mask(self, state: Tensor) -> Tensor:
        return torch.tensor([False, False, True]).expand(len(state), 3)


def rungs(frames: list[Tensor]) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


def climb(obs: object) -> Tensor:
    return torch.ones(1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("top", "limit", "max_steps", "expected"),
    [
        (5, None, None, [0, 1, 2, 3, 4, 5]),
        (5, 3, None, [0, 1, 2, 3]),
        (5, 9, 2, [0, 1, 2]),
        (5, 3, 9, [0, 1, 2, 3]),
        (0, None, None, [0, 1]),
    ],
)
def test_a_film_shows_the_first_and_the_last_state(
    top: int, limit: int | None, max_steps: int | None, expected: list[int]
) -> None:
    vec = TensorVecEnv(Ladder(top=top), 1, max_episode_steps=limit, autoreset=False)
    assert rungs(record_episode(vec, climb, seed=0, max_steps=max_steps)) == expected


def test_random_actions_heed_the_mask_and_are_seeded(tmp_path: Path) -> None:
    def length(env: Ladder, seed: int) -> int:
        vec = TensorVecEnv(env, 1, autoreset=False)
        return film(vec, tmp_path / "a.gif", baseline_policy(vec, "random", seed=seed), seed=seed)

    assert length(MaskedLadder(top=20), 0) == 10
    lengths = [length(Ladder(top=30), seed) for seed in (1, 1, 2, 3, 4)]
    assert lengths[0] == lengths[1]
    assert len(set(lengths)) > 1


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_gif_holds_every_frame_in_its_colours(tmp_path: Path, as_tensor: bool) -> None:
    frames = flags(23)
    path = tmp_path / "film.gif"
    write_gif(path, (torch.from_numpy(f) for f in frames) if as_tensor else frames, 25)
    with Image.open(path) as gif:
        assert gif.n_frames == 23
        assert gif.size == (64, 48)
        assert gif.info["loop"] == 0
        for shown, frame in zip(ImageSequence.Iterator(gif), frames, strict=True):
            assert shown.info["duration"] == 40
            error = np.abs(np.asarray(shown.convert("RGB"), dtype=int) - frame)
            assert error.max() <= 8
    assert os.listdir(tmp_path) == ["film.gif"]


@pytest.mark.parametrize(("fps", "shown"), [(10, 41), (30, 41), (50, 21), (60, 21), (100, 11)])
def test_a_gif_keeps_its_length_and_its_last_frame(tmp_path: Path, fps: float, shown: int) -> None:
    frames = flags(41)
    write_gif(tmp_path / "film.gif", frames, fps)
    with Image.open(tmp_path / "film.gif") as gif:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
        last = np.asarray(gif.convert("RGB"), dtype=int)
    assert len(durations) == shown
    assert min(durations) >= 20  # viewers slow down anything shorter
    assert sum(durations) == pytest.approx(1000 * 41 / fps, abs=15)
    assert np.abs(last - frames[-1]).max() <= 8


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (50, 70)])
def test_an_mp4_holds_every_frame_in_its_colours_and_size(tmp_path: Path, height: int, width: int) -> None:
    frames = [np.full((height, width, 3), COLOURS[i % 5], dtype=np.uint8) for i in range(20)]
    for frame in frames:
        frame[: height // 2] = 128  # upper half grey: where a stretched picture would show
    write_mp4(tmp_path / "film.mp4", frames, 10)
    about, decoded = decode_mp4(tmp_path / "film.mp4")
    assert about["size"] == (width + width % 2, height + height % 2)
    assert about["fps"] == 10
    assert about["codec"] == "h264"
    assert str(about["pix_fmt"]).startswith("yuv420p")
    assert len(decoded) == 20
    for shown, frame in zip(decoded, frames, strict=True):
        error = np.abs(shown[:height, :width].astype(int) - frame)
        error[height // 2 - 2 : height // 2 + 2] = 0  # the border is soft
        assert error.max() <= 24
    assert os.listdir(tmp_path) == ["film.mp4"]


@pytest.mark.parametrize(("name", "magic"), [("a.gif", b"GIF8"), ("A.GIF", b"GIF8"), ("a.b.mp4", b"\0\0\0")])
def test_the_ending_decides(tmp_path: Path, name: str, magic: bytes) -> None:
    write_video(tmp_path / name, flags(3), 10)
    assert (tmp_path / name).read_bytes().startswith(magic)


@pytest.mark.parametrize("name", ["film", "film.avi", "gif"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"\.gif or \.mp4"):
        write_video(tmp_path / name, flags(3), 10)


@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
def test_a_file_that_cannot_be_written_is_named_with_a_fix(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as missing:
        write_video(tmp_path / "nowhere" / name, flags(3), 10)
    assert name in missing.value.cause
    assert "Make the folder first." in missing.value.fix
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError):
        write_video(tmp_path / "file" / name, flags(3), 10)
    (tmp_path / name).mkdir()  # a folder where the file should go
    with pytest.raises(ConfigError, match="cannot be written"):
        write_video(tmp_path / name, flags(3), 10)
    assert sorted(os.listdir(tmp_path)) == sorted([name, "file"])


@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
def test_a_film_that_fails_leaves_the_old_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    for frames in ([], [*flags(2), *flags(1, height=50)], [np.zeros((4, 4, 3), dtype=np.float32)]):
        with pytest.raises(ValueError, match="frame"):
            write_video(tmp_path / name, frames, 10)
    assert (tmp_path / name).read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


class Wide(Ladder):
    """The same, drawn large."""

    def render(self, state: Tensor, index: int) -> Tensor:
        picture = torch.zeros(400, 600, 3, dtype=torch.uint8)
        picture[:, int(state[index])] = 255
        return picture


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_the_pictures_of_a_long_episode_are_not_all_in_memory_at_once(ending: str, tmp_path: Path) -> None:
    vec = TensorVecEnv(Wide(top=500), 1, max_episode_steps=120, autoreset=False)
    tracemalloc.start()
    try:
        film(vec, tmp_path / f"film{ending}", baseline_policy(vec, "random"), seed=0)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 40 * 400 * 600 * 3  # of 121


def test_pictures_of_many_sizes_come_out_in_one(tmp_path: Path) -> None:
    frames = [*flags(2, 48, 64), *flags(1, 20, 30), *flags(1, 60, 10)]
    reel = Reel(frames)
    assert {reel[number].shape for number in range(4)} == {(60, 64, 3)}
    assert np.array_equal(reel[1][6:54], frames[1])
    assert np.array_equal(reel[2][20:40, 17:47], frames[2])
    assert not reel[2][:20].any()
