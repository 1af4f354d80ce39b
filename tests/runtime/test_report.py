"""Reports: one page that needs nothing beside it, in which nothing from a file becomes markup."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from run_folders import CARTPOLE, PENDULUM, make_run

from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.evaluation.video_files import write_video
from rltrain.reports import films
from rltrain.reports.page import make_page, write_report
from rltrain.runs.summary import read_runs

EVIL = "<img src=x onerror=alert(1)>'\"&</style><script>alert(2)</script>"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Reader(HTMLParser):
    """Collects the elements of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    for seed in range(3):
        make_run(folder / f"ppo_{seed}", seed=seed, score=100.0 + seed)
        make_run(folder / f"pqn_{seed}", "pqn", seed=seed, score=50.0 - seed)
    diagnosis = "The policy takes the same action."
    make_run(folder / "sac_1", "sac", PENDULUM, score=-200.0, metadata={"diagnosis": diagnosis})
    return folder


def film(run: Path, name: str = "step_000000001000.gif") -> Path:
    import numpy as np

    (run / "videos").mkdir(exist_ok=True)
    write_video(run / "videos" / name, [np.full((8, 8, 3), i, dtype=np.uint8) for i in (0, 200)], 2)
    return run / "videos" / name


def test_a_page_has_all_there_is(runs: Path) -> None:
    film(runs / "ppo_2")
    film(runs / "sac_1", "step_000000001000.mp4")
    (runs / "broken").mkdir()
    (runs / "broken" / "config.yaml").write_text("- a")
    reader = read(make_page(read_runs([runs])))
    for part in (
        *("Report of 8 runs", "What went wrong", "The policy takes the same action.", "holds no settings"),
        *(str(runs / "pqn_1"), "102.0 ± 2.0", "agent.learning_rate", "torch", "rltrain train sac", "0" * 40),
        *("Balance a pole", "episode end", "ppo, seed 2: after 1,000 steps"),
    ):
        assert part in reader.text, part
    headings = [attributes["id"] for tag, attributes in reader.elements if tag == "h2" and "id" in attributes]
    assert headings == ["environment-1", "environment-2", "settings", "versions"]
    pictures = [attributes["alt"] for tag, attributes in reader.elements if tag == "img"]
    assert pictures.count("Learning curves") == 2
    assert {"Probability of improvement", "Performance profiles", f"{CARTPOLE}, a picture"} < set(pictures)
    assert [tag for tag, _ in reader.elements].count("video") == 1


def test_a_page_fetches_nothing_and_runs_nothing(runs: Path) -> None:
    film(runs / "ppo_2")
    page = make_page(read_runs([runs]))
    reader = read(page)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in reader.elements}
    for _, attributes in reader.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    policy = next(a["content"] for tag, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy


def test_names_in_files_stay_text(tmp_path: Path) -> None:
    metadata = {"command": EVIL, "diagnosis": EVIL, "error": EVIL, "versions": {EVIL: EVIL}, "git_commit": EVIL}
    run = make_run(tmp_path / "<b>runs" / "ppo_1", score=1.0, metadata=metadata)
    film(run, "<i>.gif")
    quoted = EVIL.replace("'", "''")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("algo: ppo", f"algo: '{quoted}'").replace(CARTPOLE, f"'{quoted}'"))
    other = make_page(read_runs([make_run(tmp_path / "plain" / "ppo_1", score=1.0)]))
    before = {tag for tag, _ in read(other).elements}
    reader = read(make_page(read_runs([run])))
    assert {tag for tag, _ in reader.elements} <= before | {"b", "figcaption"}  # of what went wrong, and of the film
    assert not any(name.startswith("on") for _, attributes in reader.elements for name in attributes)
    assert reader.text.count("<script>alert(2)</script>") >= 6


def test_films_are_bounded(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(runs / "ppo_2")
    monkeypatch.setattr(films, "LARGEST", 10)
    page = read(make_page(read_runs([runs])))
    assert "is not shown: it has more than 10 bytes" in page.text
    assert not any(attributes.get("src", "").startswith("data:image/gif") for _, attributes in page.elements)


def test_what_is_no_film_is_not_shown(runs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.gif"
    secret.write_bytes(b"GIF89a secret")
    (runs / "ppo_2" / "videos").mkdir()
    (runs / "ppo_2" / "videos" / "a.gif").symlink_to(secret)
    (runs / "pqn_0" / "videos").mkdir()
    (runs / "pqn_0" / "videos" / "a.mp4").write_bytes(b"<html>")
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(secret, tmp_path / "elsewhere" / "a.gif")
    (runs / "sac_1" / "videos").symlink_to(tmp_path / "elsewhere")
    page = make_page(read_runs([runs]))
    assert base64.b64encode(b"GIF89a secret").decode() not in page
    assert "it is neither a GIF nor an MP4" in page
    assert "it is a symbolic link" in page


def test_a_report_is_written(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["report", str(runs / "ppo_1"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text().startswith("<!doctype html>\n<html")
    with pytest.raises(ConfigError, match=r"Let it end in \.html"):
        write_report(read_runs([runs]), tmp_path / "page.pdf")


def test_an_environment_that_is_not_here_has_no_card(tmp_path: Path) -> None:
    run = make_run(tmp_path / "ppo_1", score=1.0)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(CARTPOLE, "elsewhere/Unknown-v0"))
    assert "not registered here" in make_page(read_runs([run]))


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_a_browser_shows_it_at_the_width_of_a_phone(runs: Path, tmp_path: Path) -> None:
    from PIL import Image

    write_report(read_runs([runs]), tmp_path / "page.html")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--window-size=500,900", f"--screenshot={tmp_path / 'page.png'}", f"file://{tmp_path / 'page.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (tmp_path / "page.png").exists(), done.stderr
    assert "Content Security Policy" not in done.stderr  # which the browser says where it refuses something
    with Image.open(tmp_path / "page.png") as picture:
        colours = picture.convert("RGB").getcolors(2**24)
    assert colours is not None
    assert len(colours) > 50  # not a blank page, nor one without its style
    assert (0, 114, 178) in {colour for _, colour in colours}  # of its links
