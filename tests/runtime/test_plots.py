"""Pictures of runs: what is drawn, what it is called, and the files."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from run_folders import CARTPOLE, PENDULUM, make_run

from rltrain.errors import CheckpointError, ConfigError
from rltrain.reports.figure import short
from rltrain.reports.learning_curves import draw_curves
from rltrain.reports.plot import plot, plot_run, thresholds_of
from rltrain.reports.scores import draw_improvements, draw_profiles, improvement, read_scores
from rltrain.reports.style import COLOURS, style_of
from rltrain.runs.summary import one_at_least, read_runs

SOLVED = {CARTPOLE: 150.0}


def drawn(*paths: Path, thresholds: dict[str, float] | None = None, **options: Any) -> Figure:
    return draw_curves(one_at_least(read_runs(paths)), thresholds or {}, **options)


def legend(figure: Figure) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]


def lines(axes: Axes) -> list[tuple[list[float], list[float]]]:
    """The curves with their x and y, thin ones too, but neither evaluations nor the solved line."""
    curves = [line for line in axes.lines if line.get_linestyle() != "None" and len(line.get_xdata()) > 2]
    return [(list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))) for line in curves]


def dots(axes: Axes) -> list[tuple[float, float]]:
    """The evaluations."""
    marks = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    return sorted((float(x), float(y)) for line in marks for x, y in zip(*line.get_data(), strict=True))


def test_one_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "ppo_1", seed=3)
    figure = drawn(run, thresholds=SOLVED)
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == CARTPOLE
    assert axes.get_title(loc="right") == "solved: 150"
    assert legend(figure) == ["ppo (seed 3)", "evaluation", "solved"]
    [(x, y)] = lines(axes)
    np.testing.assert_allclose(x, np.arange(1, 21) * 1000)
    np.testing.assert_allclose(y, np.arange(1, 21) * 10 + 3)
    assert dots(axes) == [(5000, 70), (10000, 120), (15000, 170), (20000, 220)]


def test_runs_that_differ_in_the_seed_are_one_group(tmp_path: Path) -> None:
    for seed in (0, 1, 2, 9):  # when it is saved changes nothing that is learned
        make_run(tmp_path / f"ppo_{seed}", seed=seed, options={"save_freq": 1_000 + seed})
    figure = drawn(tmp_path)
    (axes,) = figure.axes
    assert legend(figure) == ["ppo (4 runs)", "evaluation"]
    [(x, y)] = lines(axes)
    np.testing.assert_allclose(x, np.arange(1, 21) * 1000)
    np.testing.assert_allclose(y, np.arange(1, 21) * 10 + 1.5)  # seeds 0 and 9 are left out
    band = axes.collections[0].get_paths()[0].get_extents()
    assert 10 <= band.y0 < 11.5
    assert dots(axes) == [(5000, 70), (10000, 120), (15000, 170), (20000, 220)]  # of all runs together


def test_the_label_says_what_differs(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / f"a_{seed}", seed=seed, options={"agent": {"gamma": 0.9}})
        other = {"gamma": 0.99, "policy_kwargs": {"net_arch": [8, 8]}}
        make_run(tmp_path / f"b_{seed}", seed=seed, options={"agent": other})
    make_run(tmp_path / "dqn", "dqn")
    figure = drawn(tmp_path)
    a, b, *others = legend(figure)
    assert "gamma 0.9," in a
    assert "gamma 0.99," in b
    assert "net_arch.pi [8, 8]" in b
    assert a.endswith("(3 runs)")
    assert others == ["dqn (seed 0)", "evaluation"]
    assert len(lines(figure.axes[0])) == 3


def test_a_group_whose_label_has_no_room_is_numbered(tmp_path: Path) -> None:
    for i in range(2):
        agent = {"gamma": 0.9 + 0.01 * i, "gae_lambda": 0.9 + 0.01 * i, "ent_coef": 0.1 * i, "vf_coef": 0.5 + i}
        make_run(tmp_path / f"ppo_{i}", options={"agent": agent, "num_envs": 8 + i, "total_timesteps": 1000 + i})
    first, second, _ = legend(drawn(tmp_path))
    assert "2 more settings" in first
    assert first != second


def test_a_label_names_first_what_tells_groups_apart(tmp_path: Path) -> None:
    """Five settings differ between the first two runs, and only the last in the alphabet between the others."""
    for i in range(3):
        j = min(i, 1)
        agent = {"gamma": 0.9 + 0.01 * j, "gae_lambda": 0.9 + 0.01 * j, "ent_coef": 0.1 * j, "vf_coef": 0.5 + j}
        make_run(tmp_path / f"ppo_{i}", options={"agent": agent, "num_envs": 8 + j, "total_timesteps": 1000 + i})
    *labels, _ = legend(drawn(tmp_path))
    assert [label.partition("total_timesteps ")[2][:4] for label in labels] == ["1000", "1001", "1002"]
    assert all("2 more settings (seed" in label for label in labels)


def test_a_band_ends_where_its_first_run_ends(tmp_path: Path) -> None:
    for seed, n in enumerate((20, 12, 20)):
        make_run(tmp_path / f"ppo_{seed}", seed=seed, n=n)
    (axes,) = drawn(tmp_path).axes
    (x, _), *rest = lines(axes)
    assert max(x) == 12_000
    extents = axes.collections[0].get_paths()[0].get_extents()
    assert (extents.x0, extents.x1) == (1000, 12_000)
    assert [(min(x), max(x), y[-1]) for x, y in rest] == [(12_000, 20_000, 200), (12_000, 20_000, 202)]


def test_each_run_as_a_line(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / f"ppo_{seed}", seed=seed)
    (axes,) = drawn(tmp_path, each=True).axes
    assert [y[0] for _, y in lines(axes)] == [10, 11, 12]
    assert not axes.collections


def test_environments_have_panels_of_their_own(tmp_path: Path) -> None:
    make_run(tmp_path / "ppo_1")
    make_run(tmp_path / "ppo_2", env=PENDULUM, slope=100)
    figure = drawn(tmp_path, thresholds=SOLVED)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [CARTPOLE, PENDULUM]
    assert [axes.get_title(loc="right") for axes in figure.axes] == ["solved: 150", ""]
    assert [y[-1] for axes in figure.axes for _, y in lines(axes)] == [200, 2000]
    assert legend(figure)[0] == "ppo (1 run)"  # the same agent has one colour


def test_the_solved_line_never_squashes_the_curve(tmp_path: Path) -> None:
    run = make_run(tmp_path / "ppo_1")
    plain = drawn(run).axes[0].get_ylim()
    places = (150.0, "", True), (230.0, "", True), (1e6, ", above", False), (-1e6, ", below", False)
    for value, where, inside in places:
        (axes,) = drawn(run, thresholds={CARTPOLE: value}).axes
        low, high = axes.get_ylim()
        assert high - low < 1.4 * (plain[1] - plain[0])
        assert (low <= value <= high) == inside
        assert axes.get_title(loc="right").endswith(where or f"{value:g}")


def test_the_legend_is_below_the_axes(tmp_path: Path) -> None:
    for i, gamma in enumerate(np.linspace(0.9, 0.99, 9)):
        make_run(tmp_path / f"ppo_{i}", options={"agent": {"gamma": float(gamma)}})
    figure = drawn(tmp_path)
    FigureCanvasAgg(figure).draw()
    below = figure.legends[0].get_window_extent()
    assert below.y1 <= figure.axes[0].get_tightbbox().y0
    assert below.y0 >= 0
    assert below.x1 <= figure.bbox.x1


def test_over_time(tmp_path: Path) -> None:
    (axes,) = drawn(make_run(tmp_path / "ppo_1"), x="time").axes
    [(x, _)] = lines(axes)
    np.testing.assert_allclose(x, np.arange(1, 21) * 2)
    assert dots(axes)[0] == (10, 70)
    assert axes.get_xlabel() == "training time (s)"


def test_another_metric(tmp_path: Path) -> None:
    run = make_run(tmp_path / "ppo_1")
    (axes,) = drawn(run, metric="train/loss", thresholds=SOLVED).axes
    assert (axes.get_ylabel(), axes.get_title(loc="right"), dots(axes)) == ("train/loss", "", [])
    assert lines(axes)[0][1][:2] == [1, 0.5]
    with pytest.raises(ConfigError, match=r"None of the runs has logged 'train/los'. Did you mean 'train/loss'?"):
        drawn(run, metric="train/los")


@pytest.mark.filterwarnings("error")
def test_a_run_without_a_curve_is_named(tmp_path: Path) -> None:
    make_run(tmp_path / "ppo_1", seed=1)
    make_run(tmp_path / "ppo_2", seed=2, n=0)
    with pytest.warns(UserWarning, match=r"ppo_2' has no curve\. No episode has finished"):
        figure = drawn(tmp_path)
    assert len(lines(figure.axes[0])) == 1
    with pytest.raises(ConfigError, match="No episode has finished"):
        drawn(tmp_path / "ppo_2")
    (tmp_path / "ppo_2" / "progress.csv").unlink()
    with pytest.raises(CheckpointError, match=r"progress\.csv' does not exist"):
        drawn(tmp_path / "ppo_2")


def test_broken_runs_are_named_and_left_out(tmp_path: Path) -> None:
    make_run(tmp_path / "ppo_1")
    for name, text in (("ppo_2", "algo: ["), ("ppo_3", "a: 1\n"), ("ppo_4", None)):
        broken = make_run(tmp_path / name)
        (broken / "config.yaml").unlink()
        if text is not None:
            (broken / "config.yaml").write_text(text)
    (tmp_path / "ppo_5").symlink_to(tmp_path / "ppo_1")  # not followed
    with pytest.warns(UserWarning, match="ppo_") as warned:
        figure = drawn(tmp_path)
    assert len(lines(figure.axes[0])) == 1
    names = [str(each.message).partition(" is left out")[0] for each in warned]
    assert names == [f"'{tmp_path / f'ppo_{i}'}'" for i in (2, 3, 4)]
    with pytest.raises(CheckpointError, match=r"it has no config\.yaml"):
        drawn(tmp_path / "ppo_4")


def test_a_run_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "ppo_1")
    assert legend(drawn(run, run, tmp_path))[0] == "ppo (seed 0)"


def test_mixtures_are_told(tmp_path: Path) -> None:
    make_run(tmp_path / "ppo_1")
    make_run(tmp_path / "ppo_2", metadata={"git_commit": "1" * 40})
    with pytest.warns(UserWarning, match="The group") as warned:
        drawn(tmp_path)
    assert [str(each.message).partition("' ")[2].partition("' ")[2] for each in warned] == [
        "has several runs with seed 0.",
        "was made with 2 commits: 00000000, 11111111.",
    ]


def test_names_from_files_are_drawn_as_they_stand(tmp_path: Path) -> None:
    run = make_run(tmp_path / "ppo_1")
    text = (run / "config.yaml").read_text().replace("algo: ppo", "algo: '_$x^$\\e[2J<b>'")
    (run / "config.yaml").write_text(text)
    plot(read_runs([run]), tmp_path / "out.svg")
    assert "<b>" not in (tmp_path / "out.svg").read_text()


@pytest.mark.parametrize(
    ("kind", "ending"), [("curves", ".png"), ("profile", ".svg"), ("improvement", ".pdf")], ids=["png", "svg", "pdf"]
)
def test_files_are_the_same_each_time(tmp_path: Path, kind: str, ending: str) -> None:
    for algo in ("ppo", "pqn"):
        for seed in range(3):
            make_run(tmp_path / f"{algo}_{seed}", algo, seed=seed, score=seed + 4.0)
    runs = read_runs([tmp_path])
    one, two = (plot(runs, tmp_path / f"{name}{ending}", kind=kind) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    magic = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF-"}[ending]
    assert one.read_bytes().startswith(magic)


def test_where_pictures_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "ppo_1", score=1.0)
    before = {file.name for file in run.iterdir()}
    assert plot_run(run, SOLVED) == run / "learning_curve.png"
    assert {file.name for file in run.iterdir()} == before | {"learning_curve.png"}
    with Image.open(run / "learning_curve.png") as image:
        assert image.width == 1200
    make_run(tmp_path / "ppo_2", seed=1)
    assert plot(read_runs([tmp_path])) == Path("learning_curves.png")
    assert plot(read_runs([run]), kind="profile") == Path("performance_profile.png")


def test_a_picture_that_cannot_be_written_is_named_with_a_fix(tmp_path: Path) -> None:
    runs = read_runs([make_run(tmp_path / "run")])
    with pytest.raises(ConfigError, match=r"curve\.jpg' .* Let it end in \.png, \.svg, \.pdf"):
        plot(runs, tmp_path / "curve.jpg")
    with pytest.raises(ConfigError, match=r"cannot be written: .* Make the folder first\."):
        plot(runs, tmp_path / "nowhere" / "curve.png")
    (tmp_path / "curve.png").mkdir()
    with pytest.raises(ConfigError, match=r"cannot be written: .* Name a file"):
        plot(runs, tmp_path / "curve.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curve.png", "run"]


def test_the_solved_return_is_that_of_the_environments_own_constants(tmp_path: Path) -> None:
    own = read_runs([make_run(tmp_path / "ppo_1")])
    other = read_runs([make_run(tmp_path / "ppo_2", options={"env": {"kwargs": {"gravity": 1.6}}})])
    assert thresholds_of(own) == {CARTPOLE: 475}
    assert thresholds_of(other) == {}


def test_scores_profiles_and_improvements(tmp_path: Path) -> None:
    for algo, scores in (("ppo", (1, 2, 5)), ("dqn", (2, 3))):
        for seed, score in enumerate(scores):
            make_run(tmp_path / f"{algo}_{seed}", algo, seed=seed, score=score)
    make_run(tmp_path / "ppo_unfinished", seed=7)
    with pytest.warns(UserWarning, match="ppo_unfinished' has no score: it has no evaluation at the end"):
        scores = read_scores(read_runs([tmp_path]))
    assert {name: sorted(each) for name, each in scores[CARTPOLE].items()} == {"ppo": [1, 2, 5], "dqn": [2, 3]}
    one = improvement(scores, "dqn", "ppo")
    assert one is not None
    assert one.probability == pytest.approx(3.5 / 6)
    assert one.interval[0] < one.probability < one.interval[1]
    (axes,) = draw_profiles(scores, "return").axes
    shares = [set(np.round(np.asarray(line.get_ydata(), dtype=float), 2)) for line in axes.lines]
    assert sorted(map(sorted, shares)) == [[0, 0.33, 0.67, 1], [0, 0.5, 1]]
    (axes,) = draw_improvements(scores, "return").axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["dqn\nbetter than ppo"]
    last = read_scores(read_runs([tmp_path / "ppo_unfinished"]), "rollout/ep_rew_mean")
    assert last[CARTPOLE]["ppo"] == [207]
    with pytest.raises(ConfigError, match="None of the runs has an evaluation at the end"):
        read_scores(read_runs([tmp_path / "ppo_unfinished"]))
    with pytest.raises(ConfigError, match="No environment has two groups"):
        draw_improvements(last, "return")


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (500, "500"), (2500, "2.5k"), (1e6, "1M"), (2.5e9, "2.5B")])
def test_steps_are_shortened(number: float, text: str) -> None:
    assert short(number) == text


# Table 1 of Machado, Oliveira and Fernandes (2009), severity 1.0, for linear sRGB.
VISION = {
    "common": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
WHITE = TO_XYZ.sum(1)


def seen(colour: str, vision: str) -> np.ndarray:
    """CIE L*a*b* of a colour as people with a kind of colour vision see it."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return lab(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), vision)


def lab(linear: np.ndarray, vision: str) -> np.ndarray:
    """The same of a colour in linear sRGB."""
    ratio = TO_XYZ @ np.clip(np.asarray(VISION[vision]) @ linear, 0, 1) / WHITE
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colours_differ_for_every_kind_of_colour_vision(vision: str) -> None:
    """A difference of 2.3 can just be noticed by those who look for it; these are seven times as far apart."""
    for one, two in combinations((*COLOURS, "#ffffff"), 2):
        assert np.linalg.norm(seen(one, vision) - seen(two, vision)) > 16, (one, two)


@pytest.mark.parametrize("vision", ["protanopia", "deuteranopia", "tritanopia"])
def test_simulated_vision_confuses_what_it_should(vision: str) -> None:
    """Guards the test above: along the direction that a matrix takes to almost nothing, colours look alike."""
    direction = np.linalg.svd(VISION[vision])[2][-1]
    one, two = (np.full(3, 0.3) + sign * 0.15 * direction for sign in (-1, 1))
    apart = {each: np.linalg.norm(lab(one, each) - lab(two, each)) for each in ("common", vision)}
    assert apart[vision] < 0.35 * apart["common"]


def test_groups_differ_in_more_than_colour() -> None:
    styles = [style_of(i) for i in range(42)]
    assert len({(style.colour, str(style.dash)) for style in styles}) == 42
    assert len({(str(style.dash), style.marker) for style in styles[:18]}) == 18  # also without colour
