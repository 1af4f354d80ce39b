"""The metrics of a run for DVC, in files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rltrain.storage.files import MIB, Damaged, read_text, write_atomically
from rltrain.tracker import RunInfo
from rltrain.trackers.service import ServiceTracker


class DvcliveTracker(ServiceTracker):
    """Writes the folder ``dvclive`` in the run folder, which DVC, its studio and its extension of VS Code show.

    It commits nothing, and makes no experiment of DVC: ``dvc exp save`` does, when you want one.

    Args:
        run: The run. If it resumes, points after the resumed step are dropped.
    """

    service = "dvclive"

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        from dvclive import Live

        folder = run.run_dir / "dvclive"
        if run.resume_step is not None:
            _forget_after(folder, run.resume_step)
        os.environ["DVCLIVE_OPEN"] = "false"
        os.environ.pop("DVC_EXP_BASELINE_REV", None)  # in a stage of an experiment it would add the folder to Git
        self._files = folder / "artifacts"
        self._live = Live(
            dir=str(folder),
            resume=run.resume_step is not None,
            save_dvc_exp=False,
            dvcyaml=str(folder / "dvc.yaml"),
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds a point to each metric's curve."""
        self._live.step = step
        for tag, value in metrics.items():
            self._live.log_metric(tag, value)
        self._live.make_summary()

    def image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        """Adds a picture."""
        self._live.log_image(f"{tag}/{step}.png", image)

    def video(self, path: Path, step: int) -> None:
        """Adds a film, as a file."""
        self._keep(path, f"videos/{path.name}")

    def text(self, tag: str, text: str, step: int) -> None:
        """Adds a text, as a file."""
        file = self._files / f"{tag}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)

    def hparams(self, values: Mapping[str, bool | float | str]) -> None:
        """Writes ``params.yaml``."""
        self._live.log_params(dict(values))

    def close(self) -> None:
        """Writes the summary and ``dvc.yaml``."""
        self._live.end()

    def add_file(self, path: Path, kind: str) -> None:
        """Adds a file; pictures are shown."""
        if path.suffix == ".png":
            self._live.log_image(f"{kind}.png", str(path))
        else:
            self._keep(path, path.name)

    def add_model(self, checkpoint: Path) -> None:
        """Adds the model, in place of the one before."""
        shutil.rmtree(self._files / "model", ignore_errors=True)
        for name, file in self.model_files(checkpoint).items():
            self._keep(file, f"model/{name}")

    def _keep(self, path: Path, name: str) -> None:
        file = self._files / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, file)


def _forget_after(folder: Path, step: int) -> None:
    """Removes points after a step from the tables of a folder."""
    for table in (folder / "plots" / "metrics").rglob("*.tsv"):
        with suppress(OSError, Damaged):
            head, *rows = read_text(table, 64 * MIB).splitlines()
            at = head.split("\t").index("step")
            kept = [row for row in rows if float(row.split("\t")[at]) <= step]
            if len(kept) < len(rows):
                write_atomically(table, "\n".join([head, *kept, ""]))
