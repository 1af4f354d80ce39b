"""Films of runs for a report: one for each group, as small files inside the page."""

from __future__ import annotations

from pathlib import Path

from rltrain.reports.groups import Group
from rltrain.reports.html import Markup, data_uri, tag
from rltrain.runs.layout import PREFIX, number_after
from rltrain.storage.files import MIB, Damaged, check_folder, read_bytes, reason

LARGEST, MOST = 4 * MIB, 32 * MIB
"""Bytes of a film, and of all films in a page."""
ENDINGS = (".gif", ".mp4")


class Films:
    """Puts films into a page until there is no more room.

    Attributes:
        room: Bytes that are left.
    """

    def __init__(self) -> None:
        self.room = MOST

    def of_group(self, group: Group) -> Markup | None:
        """The newest film of the run of a group that scored best among those with films; None if there is none."""
        found = [(run, film) for run in group.runs if (film := newest_film(run.path)) is not None]
        if not found:
            return None
        run, film = max(found, key=lambda each: (each[0].score is not None, each[0].score or 0.0))
        step = number_after(PREFIX, film.stem)
        caption = f"{group.label}, seed {run.seed}: {film.stem if step is None else f'after {step:,} steps'}"
        try:
            content = read_bytes(film, min(LARGEST, self.room))
        except (OSError, Damaged) as error:
            return tag("p", f"The film '{film}' is not shown: {reason(error)}.", class_="soft")
        if content[:4] == b"GIF8":
            picture = tag("img", src=data_uri(content, "image/gif"), alt=caption)
        elif content[4:8] == b"ftyp":
            source = data_uri(content, "video/mp4")
            picture = tag("video", src=source, controls=True, loop=True, muted=True, playsinline=True)
        else:
            return tag("p", f"The film '{film}' is not shown: it is neither a GIF nor an MP4.", class_="soft")
        self.room -= len(content)
        return tag("figure", picture, tag("figcaption", caption))


def newest_film(run: Path) -> Path | None:
    """The film of the latest step of a run; None if there is none."""
    folder = run / "videos"
    try:
        check_folder(folder)
        films = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and path.name[:1] != ".")
    except OSError:
        return None
    return films[-1] if films else None
