"""Films of clips: the episodes are played again from their seeds with the actions that were recorded."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rltrain.data.columns import ACTION, REWARD, TERMINATED
from rltrain.data.dataset import Dataset
from rltrain.data.layout import NO_SEED
from rltrain.errors import ConfigError, DatasetError, RunError
from rltrain.evaluation.frames import Picture, Reel, captioned, draw, enlarged, warn_of_one_colour
from rltrain.evaluation.video_files import write_video
from rltrain.make import make_vec
from rltrain.preferences.clips import Clip
from rltrain.preferences.folder import FILMS, Preferences, Round, check_clips
from rltrain.rng import derive_seed
from rltrain.storage.files import exists, reason
from rltrain.storage.values import from_plain
from rltrain.vec import VecEnv

SIDES = ("left", "right")
LARGEST = 360
"""Pixels of the longer side of a film, at most."""
SECONDS = 3.0
"""How long a film lasts at least: people cannot judge half a second."""
PAUSE = 0.6
"""Seconds that its last picture stands."""
AT_ONCE = 24
"""Clips whose pictures are in memory at a time."""


@dataclass(frozen=True)
class Take:
    """A clip to film.

    Attributes:
        clip: The clip.
        out: The file.
        row: The environment that plays it.
    """

    clip: Clip
    out: Path
    row: int


def film_of(prefs: Preferences, pair: str, side: str, ending: str = ".gif") -> Path:
    """Where the film of a clip is, or is to be."""
    return prefs.path / FILMS / f"{pair}_{side}{ending}"


def make_films(prefs: Preferences, pairs: Sequence[str], *, ending: str = ".gif", progress: bool = False) -> int:
    """Makes the films of pairs that are not there yet, and returns how many that were.

    Args:
        prefs: The preferences.
        pairs: The pairs, by name.
        ending: ``.gif`` or ``.mp4``.
        progress: Whether to say now and then how far it is, to stderr.

    Raises:
        ConfigError: The environment cannot be drawn, or does not do again what it did.
        DatasetError: The folder is damaged.
        RunError: There is no place for films.
    """
    wanted, made, total = set(pairs), 0, 0
    try:
        (prefs.path / FILMS).mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"'{prefs.path / FILMS}' cannot be made: {reason(error)}.", "Make room.") from error
    jobs: list[tuple[Round, dict[tuple[int, int], list[Take]]]] = []
    for each in prefs.rounds():
        takes: dict[tuple[int, int], list[Take]] = defaultdict(list)
        check_clips(each, prefs.segment)
        for pair in each.pairs:
            for side, clip in zip(SIDES, (pair.left, pair.right), strict=True):
                out = film_of(prefs, pair.name, side, ending)
                if pair.name in wanted and not exists(out):
                    key, row = _origin(each.dataset, clip.episode)
                    takes[key].append(Take(clip, out, row))
                    total += 1
        jobs.append((each, takes))
    tell_at = time.monotonic() + 2.0
    for each, takes in jobs:
        for of_one in takes.values():
            ordered = sorted(of_one, key=lambda take: take.clip.start)
            for first in range(0, len(ordered), AT_ONCE):
                part = ordered[first : first + AT_ONCE]
                _film(each, prefs.segment, part)
                made += len(part)
                if progress and time.monotonic() >= tell_at:
                    tell_at = time.monotonic() + 5.0
                    print(f"  films: {made} of {total}", file=sys.stderr)
    return made


def _origin(dataset: Dataset, episode: int) -> tuple[tuple[int, int], int]:
    """What has to be played for an episode: policy and number of its round there, or the episode alone; and its row.

    Environments that are reset one by one are played alone, by the seed of the episode.
    """
    if int(dataset.episodes.seed[episode]) != NO_SEED:
        return (-1, episode), 0
    recording = dataset.manifest["recording"]
    for index, count in enumerate(recording["each"]):
        if episode < count:
            number, row = divmod(episode, recording["num_envs"])
            return (index, number), row
        episode -= count
    raise DatasetError(f"'{dataset.path}' does not say how its episodes were recorded.", "Ask anew.")


def _film(each: Round, segment: int, takes: Sequence[Take]) -> None:
    """Plays what is needed once, and writes the films of some clips in it."""
    frames: dict[Path, Reel] = defaultdict(Reel)
    ended: dict[Path, int] = {}
    fps = 30.0
    for step, vec, over in _played(each, takes, segment):
        fps = vec.render_fps
        for take in takes:
            at = step - take.clip.start
            if 0 <= at <= segment and take.out not in ended:
                frames[take.out].append(_fitted(draw(vec, take.row)))
                if over[take.row]:
                    ended[take.out] = at
    for take in takes:
        reel = frames[take.out]
        warn_of_one_colour(reel)
        pictures = [reel[at] for at in range(len(reel))]
        shown = [
            captioned(
                picture, f"step {at} of {segment}" + ("   end" if ended.get(take.out) == at else ""), at / segment
            )
            for at, picture in enumerate(pictures)
        ]
        shown += shown[-1:] * (segment + 1 - len(shown))
        speed = min(fps, max(4.0, (segment + 1) / SECONDS))
        write_video(take.out, shown + shown[-1:] * round(PAUSE * speed), speed)


def _played(each: Round, takes: Sequence[Take], segment: int) -> Iterator[tuple[int, VecEnv, np.ndarray]]:
    """The environments at each step that is needed, and which of their episodes are over.

    Raises:
        ConfigError: They do not do what they did when they were recorded.
    """
    dataset, (policy, number) = each.dataset, _origin(each.dataset, takes[0].clip.episode)[0]
    recording, environment = dataset.manifest["recording"], dataset.manifest["environment"]
    options: dict[str, Any] = {name: from_plain(value) for name, value in environment["options"].items()}
    options.setdefault("max_episode_steps", None)
    alone = policy < 0
    if alone:
        episodes = [number]
    else:
        before = sum(recording["each"][:policy])
        first = number * recording["num_envs"]
        episodes = list(range(before + first, before + min(first + recording["num_envs"], recording["each"][policy])))
    rows = 1 if alone else recording["num_envs"]
    device = str(each.facts.get("device", "cpu"))
    with closing(make_vec(environment["id"], rows, device=device, render=True, **options)) as vec:
        vec.reset(derive_seed(recording["seed"], "record", policy, number) if not alone else 0)
        if alone:
            vec.reset_each([int(dataset.episodes.seed[number])])  # type: ignore[attr-defined]
        start, length = dataset.episodes.start[episodes], dataset.episodes.length[episodes]
        over = np.zeros(rows, bool)
        last = min(max(take.clip.start for take in takes) + segment, int(length.max()))
        yield 0, vec, over
        for step in range(last):
            at = start + np.minimum(step, length - 1)
            action = torch.from_numpy(dataset.take(ACTION, at))
            action = torch.cat([action, action[:1].expand(rows - len(action), *action.shape[1:])])
            outcome = vec.step(action.to(vec.device))
            running = step < length
            reward, terminated = (x[: len(episodes)].cpu().numpy() for x in (outcome.reward, outcome.terminated))
            same = np.isclose(dataset.take(REWARD, at), reward, rtol=1e-4, atol=1e-5, equal_nan=True)
            if not (same & (dataset.take(TERMINATED, at) == terminated))[running].all():
                raise ConfigError(
                    f"'{environment['id']}' does not do again what it did, so its clips cannot be filmed.",
                    "Its episodes must follow from their seeds; label clips with --oracle, or mend the environment.",
                )
            over[: len(episodes)] = step + 1 >= length
            yield step + 1, vec, over


def _fitted(picture: Picture) -> Picture:
    """A picture in the size of a film."""
    if max(picture.shape[:2]) <= LARGEST:
        return enlarged(picture)
    image = Image.fromarray(picture)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    return np.asarray(image)
