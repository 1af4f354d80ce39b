"""Learning curves: the lines that are drawn, and the file of the picture."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.axes
import numpy as np
import pytest
from PIL import Image

from rltrain.errors import CheckpointError, ConfigError
from rltrain.evaluation.plotting import COLOURS, Curve, on_one_axis, plot_runs, short
from rltrain.tracker import RunInfo
from rltrain.trackers.csv import CsvTracker


def make_run(path: Path, algo: str = "ppo", env: str = "rltrain/CartPole-v1", seed: int = 0, *, n: int = 20) -> Path:
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(f"algo: {algo}\nenv:\n  id: {env}\nseed: {seed}\n")
    tracker = CsvTracker(RunInfo(path, 1000))
    tracker.log({"time/fps": 1.0}, 500)  # before any episode has finished
    for i in range(1, n + 1):
        tracker.log({"rollout/ep_rew_mean": 10.0 * i + seed}, i * 1000)
        if i % 5 == 0:
            tracker.log({"eval/mean_reward": 10.0 * i + 20}, i * 1000)
    tracker.close()
    return path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[matplotlib.axes.Axes]:
    """The axes that were drawn on, as they are when the legend is made, the last thing."""
    seen: list[matplotlib.axes.Axes] = []
    legend = matplotlib.axes.Axes.legend

    def spy(axes: matplotlib.axes.Axes, *args: object, **kwargs: object) -> object:
        seen.append(axes)
        return legend(axes, *args, **kwargs)

    monkeypatch.setattr(matplotlib.axes.Axes, "legend", spy)
    return seen


def labels(axes: matplotlib.axes.Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def has_colour(path: Path, colour: str) -> bool:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    with Image.open(path) as picture:
        return bool((np.abs(np.asarray(picture.convert("RGB"), dtype=int) - wanted).max(-1) <= 2).sum() > 100)


def test_one_run(tmp_path: Path, drawn: list[matplotlib.axes.Axes]) -> None:
    run = make_run(tmp_path / "ppo_1", seed=3)
    picture = plot_runs([run], None, threshold=150)
    assert picture == run / "learning_curve.png"
    with Image.open(picture) as image:
        assert image.size == (1200, 675)
    assert has_colour(picture, COLOURS[0])
    assert not has_colour(picture, COLOURS[1])
    (axes,) = drawn
    assert axes.get_title(loc="left") == "ppo on rltrain/CartPole-v1"
    assert labels(axes) == ["training episodes, ppo_1, seed 3", "evaluations", "solved at 150"]
    training, evaluation = axes.lines[:2]
    np.testing.assert_array_equal(training.get_xdata(), np.arange(1, 21) * 1000)
    np.testing.assert_array_equal(training.get_ydata(), np.arange(1, 21) * 10 + 3)
    np.testing.assert_array_equal(evaluation.get_xdata(), [5000, 10000, 15000, 20000])
    np.testing.assert_array_equal(evaluation.get_ydata(), [70, 120, 170, 220])
    assert sorted(file.name for file in run.iterdir()) == ["config.yaml", "learning_curve.png", "progress.csv"]


def test_several_runs(tmp_path: Path, drawn: list[matplotlib.axes.Axes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [make_run(tmp_path / f"ppo_{i}", seed=i) for i in range(2)]
    assert plot_runs(runs).resolve() == tmp_path / "learning_curves.png"
    assert has_colour(tmp_path / "learning_curves.png", COLOURS[1])
    assert labels(drawn[0]) == ["ppo_0, seed 0", "ppo_1, seed 1", "evaluations"]


def test_three_runs_of_a_kind_become_a_median_with_its_range(tmp_path: Path, drawn: list[matplotlib.axes.Axes]) -> None:
    runs = [make_run(tmp_path / f"ppo_{i}", seed=seed) for i, seed in enumerate((0, 1, 8))]
    runs.append(make_run(tmp_path / "dqn_1", algo="dqn"))
    plot_runs(runs, tmp_path / "out.png")
    (axes,) = drawn
    assert axes.get_title(loc="left") == "Learning curves"
    kinds = "ppo on rltrain/CartPole-v1", "dqn on rltrain/CartPole-v1"
    assert labels(axes) == [f"{kinds[0]}: median and range of 3 runs", f"{kinds[1]}: dqn_1, seed 0", "evaluations"]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), np.arange(1, 21) * 10 + 1)  # the median, not the mean
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (10, 208)


def test_curves_are_put_on_one_axis() -> None:
    none = np.empty(0)
    long = Curve("k", "a", np.array([10.0, 20, 40]), np.array([1.0, 2, 4]), none, none)
    brief = Curve("k", "b", np.array([15.0, 30]), np.array([0.0, 3]), none, none)
    untrained = Curve("k", "c", none, none, none, none)
    steps, returns = on_one_axis([long, brief, untrained])
    assert steps.tolist() == [15, 20, 30, 40]
    np.testing.assert_allclose(returns, [[1.5, 2, 3, 4], [0, 1, 3, 3]])


def test_a_run_without_a_configuration_goes_by_its_folder(tmp_path: Path, drawn: list[matplotlib.axes.Axes]) -> None:
    run = make_run(tmp_path / "lost")
    (run / "config.yaml").unlink()
    plot_runs([run])
    (run / "config.yaml").write_text("- not\n- a: config\n")
    plot_runs([run])
    assert [axes.get_title(loc="left") for axes in drawn] == ["lost", "lost"]


def test_evaluations_alone_are_drawn_too(tmp_path: Path, drawn: list[matplotlib.axes.Axes]) -> None:
    for i in range(3):
        make_run(tmp_path / str(i), n=0)
        CsvTracker(RunInfo(tmp_path / str(i), 10)).log({"eval/mean_reward": 1.0, "rollout/ep_rew_mean": math.nan}, 10)
    plot_runs([tmp_path / str(i) for i in range(3)], tmp_path / "out.png")
    assert "evaluations" in labels(drawn[0])


def test_what_cannot_be_drawn_is_named_with_a_fix(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n=0)
    with pytest.raises(CheckpointError, match=r"No episode has finished in '.*run' yet\. Train for longer\."):
        plot_runs([run])
    (run / "progress.csv").write_text("time/total_timesteps\n")
    with pytest.raises(CheckpointError, match="no rows yet"):
        plot_runs([run])
    (run / "progress.csv").unlink()
    with pytest.raises(CheckpointError, match=r"progress\.csv' does not exist"):
        plot_runs([run])


def test_a_picture_that_cannot_be_written_is_named_with_a_fix(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"curve\.svg' is not a PNG"):
        plot_runs([run], tmp_path / "curve.svg")
    with pytest.raises(ConfigError, match=r"cannot be written: .* Make the folder first\."):
        plot_runs([run], tmp_path / "nowhere" / "curve.png")
    (tmp_path / "curve.png").mkdir()
    with pytest.raises(ConfigError, match=r"cannot be written: .* Name a file"):
        plot_runs([run], tmp_path / "curve.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curve.png", "run"]


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (500, "500"), (2500, "2.5k"), (1e6, "1M"), (2.5e9, "2.5B")])
def test_steps_are_shortened(number: float, text: str) -> None:
    assert short(number) == text
