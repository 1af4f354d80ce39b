"""What environments draw, in every form they have for it."""

from __future__ import annotations

import signal
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image, ImageSequence

import rltrain
from rltrain.adapters.frames import picture_of
from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.evaluation.baselines import baseline_policy
from rltrain.evaluation.limits import Limits
from rltrain.evaluation.video import film, record, record_episode
from rltrain.make import make_vec
from rltrain.process import stopping

LENGTH = 6
BUFFER = np.zeros((40, 60, 3), np.uint8)


def plain(shade: int) -> np.ndarray:
    return np.full((40, 60, 3), shade, np.uint8)


def reused(shade: int) -> np.ndarray:
    BUFFER[:] = shade
    return BUFFER


FORMS: dict[str, Any] = {
    "bytes": plain,
    "reused": reused,
    "RGBA": lambda shade: np.dstack([plain(shade), np.full((40, 60), 255, np.uint8)]),
    "floats to 1": lambda shade: plain(shade).astype(np.float64) / 255,
    "floats to 255": lambda shade: plain(max(shade, 2)).astype(np.float32),
    "gray": lambda shade: plain(shade)[:, :, 0],
    "gray with a channel": lambda shade: plain(shade)[:, :, :1],
    "channels first": lambda shade: plain(shade).transpose(2, 0, 1),
    "whole numbers": lambda shade: plain(shade).astype(np.int64),
    "list": lambda shade: [plain(0), plain(shade)],
}


class Screen(gymnasium.Env[Any, Any]):
    """Draws a shade of gray that is twenty times the step."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, form: str = "bytes", render_mode: str | None = None) -> None:
        self.form, self.render_mode, self.drawn = form, render_mode, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return np.zeros(1, np.float32), 0.5, self.time == LENGTH, False, {}

    def render(self) -> Any:
        return FORMS[self.form](20 * self.time)


class Growing(Screen):
    """Pictures that become larger."""

    def render(self) -> Any:
        return np.full((10 + self.time, 140 - 10 * self.time, 3), 200, np.uint8)


class Tiny(Screen):
    """A picture of three pixels by two."""

    def render(self) -> Any:
        return np.full((2, 3, 3), 200, np.uint8)


class NoModes(Screen):
    """Declares no render modes, as environments that forget it, and takes no argument for them either."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self) -> None:
        super().__init__()


class Endless(Screen):
    """Its episode does not end."""

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.5, False, False, {}


class Broken(Screen):
    """Draws at first, and then its window is gone."""

    def render(self) -> Any:
        if self.time > 2:
            raise RuntimeError("the window is gone")
        return plain(0)


class Headless(Screen):
    """Fails as MuJoCo does where there is no display."""

    def render(self) -> Any:
        raise RuntimeError("an OpenGL platform library has not been loaded into this process, gladLoadGL error")


class Words(Screen):
    """Draws letters."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "human"]}


def filmed(env: type[Screen], path: Path, **options: Any) -> list[np.ndarray]:
    kwargs = {name: options.pop(name) for name in ("form",) if name in options}
    vec = make_vec(env, 1, render=True, **kwargs)
    film(vec, path, baseline_policy(vec, "random"), seed=0, **options)
    vec.close()
    with Image.open(path) as gif:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_is_filmed(form: str, tmp_path: Path) -> None:
    vec = make_vec(Screen, 1, render=True, form=form)
    frames = record_episode(vec, baseline_policy(vec, "random"), seed=0)
    vec.close()
    wanted = [20 * step for step in range(LENGTH + 1)]
    assert [int(frame[0, 0, 0]) for frame in frames] == ([2, *wanted[1:]] if form == "floats to 255" else wanted)
    assert all(frame.dtype == np.uint8 and frame.shape == (40, 60, 3) for frame in frames)
    assert len(filmed(Screen, tmp_path / "film.gif", form=form)) == LENGTH + 1


def test_what_is_transparent_becomes_white() -> None:
    drawn = np.zeros((4, 4, 4), np.uint8)
    drawn[:2, :, 3] = 255
    picture = picture_of(drawn)
    assert picture is not None
    assert (picture[:2] == 0).all()
    assert (picture[2:] == 255).all()


@pytest.mark.parametrize(
    "drawn", [None, "text", [], np.zeros(3), np.zeros((2, 2, 2, 2)), np.zeros((5, 6, 7)), object()]
)
def test_what_is_no_picture(drawn: Any) -> None:
    assert picture_of(drawn) is None


def test_pictures_that_grow_get_margins(tmp_path: Path) -> None:
    frames = filmed(Growing, tmp_path / "film.gif", captions=False)
    assert {frame.shape for frame in frames} == {(16, 140, 3)}


def test_tiny_pictures_are_enlarged(tmp_path: Path) -> None:
    frames = filmed(Tiny, tmp_path / "film.gif", captions=False)
    assert frames[0].shape == (172, 258, 3)
    assert (np.abs(frames[0].astype(int) - 200) < 8).all()


class Black(Screen):
    """Draws nothing."""

    def render(self) -> Any:
        return plain(0)


class Dotted(Black):
    """Draws next to nothing."""

    def render(self) -> Any:
        return np.pad(np.full((1, 1, 3), 1, np.uint8), ((3, 36), (4, 55), (0, 0)))


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({}, "what its render() returns"),
        ({"SDL_VIDEODRIVER": "dummy"}, "Unset SDL_VIDEODRIVER, which is 'dummy'"),
        ({"MUJOCO_GL": "osmesa"}, "MUJOCO_GL is 'osmesa': try another one"),
    ],
)
def test_a_film_of_one_colour_is_told_once_with_what_to_try(
    variables: dict[str, str], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SDL_VIDEODRIVER", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.warns(UserWarning, match="one colour only, #000000: nothing is drawn") as told:
        filmed(Black, tmp_path / "film.gif")
    assert len(told) == 1
    assert advice in str(told[0].message)


def test_a_film_of_several_colours_is_not_suspected(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    filmed(Screen, tmp_path / "film.gif")  # each picture has one colour, the next another one
    filmed(Dotted, tmp_path / "dot.gif")
    assert not [each for each in recwarn if "one colour" in str(each.message)]


def test_captions_are_below_the_picture_and_can_be_left_out(tmp_path: Path) -> None:
    plain_frames = filmed(Screen, tmp_path / "plain.gif", captions=False)
    with_text = filmed(Screen, tmp_path / "text.gif")
    height = plain_frames[0].shape[0]
    assert with_text[0].shape[0] > height
    strips = [frame[height:] for frame in with_text]
    assert all((a != b).any() for a, b in pairwise(strips))  # the step and the return go on
    for one, other in zip(plain_frames, with_text, strict=True):
        assert np.abs(one.astype(int) - other[:height]).max() < 8


def test_several_episodes_and_a_limit_of_steps(tmp_path: Path) -> None:
    vec = make_vec(Screen, 1, render=True)
    shots = list(record(vec, baseline_policy(vec, "random"), seed=0, episodes=3, every=4))
    assert [(shot.episode, shot.step) for shot in shots] == [(k, step) for k in range(3) for step in (0, 4, LENGTH)]
    assert [shot.total for shot in shots][-1] == LENGTH / 2
    assert film(vec, tmp_path / "a.gif", baseline_policy(vec, "random"), seed=0, episodes=2) == 2 * LENGTH
    vec.close()
    with pytest.warns(UserWarning, match="1 of 1 episodes in .* did not end, and were left after 30 steps"):
        assert len(filmed(Endless, tmp_path / "b.gif", max_steps=30)) == 31


def test_a_film_ends_when_time_is_up_or_it_is_stopped(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="did not end"):
        filmed(Endless, tmp_path / "a.gif", limits=Limits(seconds=0.05))
    stopping.ask(signal.SIGINT)
    try:
        with pytest.raises(stopping.Stopped):
            filmed(Endless, tmp_path / "b.gif")
    finally:
        stopping.ask(None)
    assert not (tmp_path / "b.gif").exists()


def test_no_more_is_drawn_than_is_shown(tmp_path: Path) -> None:
    class Fast(Screen):
        metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 120}
        count = 0

        def render(self) -> Any:
            Fast.count += 1
            return super().render()

    frames = filmed(Fast, tmp_path / "film.gif")
    assert len(frames) == Fast.count == 3  # of a film of 30 pictures a second: steps 0, 4 and 6


def test_an_environment_that_declares_no_render_modes(tmp_path: Path) -> None:
    assert len(filmed(NoModes, tmp_path / "film.gif")) == LENGTH + 1


@pytest.mark.parametrize(
    ("env", "cause", "fix"),
    [(Headless, "cannot be drawn here", "MUJOCO_GL=egl"), (Words, "draws no pictures", "rgb_array")],
)
def test_what_cannot_be_drawn_says_what_to_do(env: type[Screen], cause: str, fix: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=cause) as error:
        filmed(env, tmp_path / "film.gif")
    assert fix in error.value.fix


def test_a_film_that_breaks_does_not_end_training(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="There is no film of step 64"):
        result = rltrain.train(
            "ppo",
            Broken,
            total_timesteps=128,
            num_envs=4,
            num_threads=1,
            video_freq=64,
            n_eval_episodes=0,
            trackers=[],
            progress=False,
            run_dir=tmp_path,
            agent={"n_steps": 16, "batch_size": 32, "n_epochs": 1},
        )
    assert result.steps == 128


def test_watch_films_as_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], clean_registries: None) -> None:
    gymnasium.register("Screen-v0", entry_point="test_frames:Screen")
    words = ["watch", "Screen-v0", "--out", str(tmp_path / "a.gif"), "--episodes", "2", "--max-steps", "4"]
    assert main([*words, "--no-captions"]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("a.gif: 8 steps\n")
    assert "2 of 2 episodes" in said.err
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.size == (300, 200)
