"""The documentation site: it builds strictly, needs no network, and says what the code says."""

from __future__ import annotations

import ast
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import rltrain
from docs.site import ROOT, check, made, pages
from rltrain.registry import agent_config_class

MISSING = [name for name in ("zensical", "mkdocstrings", "ziamath") if find_spec(name) is None]
AGENTS = ("ppo", "dqn", "pqn", "sac")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    if MISSING:
        pytest.skip(f"the extra docs is not installed: {', '.join(MISSING)}")
    from docs.site.build import build

    return build(tmp_path_factory.mktemp("docs") / "build").parent


def test_every_page_is_built_and_found_by_the_search(site: Path) -> None:
    found = {item["location"].partition("#")[0] for item in json.loads((site / "search.json").read_text())["items"]}
    expected = {path.removesuffix(".md") + ".html" for path in pages.collect().pages}
    assert expected <= found
    assert all((site / page).is_file() for page in expected)
    assert (site / "search.js").stat().st_size > 100_000  # for pages that are opened from a folder


def test_every_page_stands_in_the_navigation(site: Path) -> None:
    linked = {address.removeprefix("./") for address, _ in check.read(site / "start.html").addresses}
    assert {path.removesuffix(".md") + ".html" for path in pages.collect().pages} <= linked


def test_nothing_is_loaded_from_a_network(site: Path) -> None:
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style
    assert not check.problems(site)  # the build looks at addresses in pages; this is its answer


@pytest.mark.parametrize("agent", AGENTS)
def test_agents_have_every_setting_and_drawn_formulas(site: Path, agent: str) -> None:
    assert all(row.startswith("| ") for row in made.settings(agent).splitlines())
    page = (site / "agents" / f"{agent}.html").read_text()
    for name in agent_config_class(agent).model_fields:
        assert f"<code>{name}" in page
    assert "$$" not in page
    assert page.count('<svg role="img" aria-label=') >= 6


def test_the_reference_has_everything_that_is_exported(site: Path) -> None:
    reference = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    assert [name for name in rltrain.__all__ if name[0] != "_" and f'id="rltrain.{name}"' not in reference] == []


def test_a_name_that_no_page_of_the_reference_has_is_added() -> None:
    assert made.unlisted(["Agent", "Brandnew", "__version__"]) == "::: rltrain.Brandnew"


def test_the_gallery_has_a_small_picture_of_every_environment_that_is_described() -> None:
    gallery = made.gallery()
    described = [
        section.title.removeprefix("rltrain/") for section in pages.sections(made.GALLERY) if section.level == 3
    ]
    assert len(described) > 60
    assert [name for name in described if f"[{name}](envs/README.md#" not in gallery] == []
    assert sum(path.stat().st_size for path in (ROOT / "envs/gallery").iterdir()) < 1_000_000


def test_no_section_about_agents_is_missing() -> None:
    site = pages.collect()
    slugs = [section.slug for section in pages.sections(pages.REST) if section.level >= 2]
    assert [slug for slug in slugs if (pages.REST, slug) not in site.anchors] == []


def test_wrong_links_are_found_and_right_ones_changed(tmp_path: Path) -> None:
    site = pages.collect()
    assert site.errors == []
    lines = [
        "[no file](nowhere.md) [no heading](runs.md#nothing) `[code](nowhere.md)`",
        "[page](../CONTRIBUTING.md) [section](../agents/README.md#dqn) [file](../constraints.txt)",
        "```",
        "[code](nowhere.md)",
        "```",
    ]
    site.pages = {"deep/new.md": pages.Page("deep/new.md", [pages.Part("docs/new.md", lines)])}
    pages.write(site, tmp_path)
    assert len(site.errors) == 2
    assert all("docs/new.md" in error for error in site.errors)
    text = (tmp_path / "deep/new.md").read_text()
    assert "[page](../project/contributing.md) [section](../agents/dqn.md) [file](../files/constraints.txt)" in text


@pytest.mark.parametrize("marker", ["include agents/README.md#nothing", "include nowhere.md#x", "make nothing"])
def test_markers_that_ask_for_what_is_not_there_are_found(marker: str) -> None:
    site = pages.Site()
    section = pages.Section("docs/new.md", 1, "New", "new", [f"<!-- {marker} -->", "instead", "<!-- end -->", "after"])
    parts = [part for part in pages.contents(site, "new.md", [section]) if isinstance(part, pages.Part)]
    lines = [line for part in parts for line in part.lines]
    assert "after" in lines
    assert "instead" not in lines
    assert len(site.errors) == 1


def test_built_pages_are_searched_for_addresses_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="here"></h1><a href="#here"></a><a href="b.html#there"></a><a href="https://example.org"></a>'
        '<a href="#no"></a><a href="c.html"></a><img src="no.png"><script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    assert [problem.split("'")[1] for problem in check.problems(tmp_path)] == [
        "#no",
        "c.html",
        "no.png",
        "https://example.org/x.js",
    ]


def templates() -> list[re.Pattern[str]]:
    """Every text in the code that has a word to recognise it by, with anything where a value is put in."""
    found = set()
    for folder in ("rltrain", "agents"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
                if sum(len(text) for text in texts if isinstance(text, str)) >= 12:
                    found.add("".join(re.escape(text) if isinstance(text, str) else "(.+)" for text in texts))
    return [re.compile(text, re.DOTALL) for text in found]


def test_no_code_in_a_table_has_a_bar_whose_backslash_would_be_seen() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        assert [row for row in rows if re.search(r"`[^`]*\\\|[^`]*`", row)] == [], page


def test_the_errors_of_the_questions_are_those_of_the_code() -> None:
    text = (ROOT / "docs/faq.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^(?:error|warning): (.+)$", text, flags=re.MULTILINE)
    known = templates()
    assert len(quoted) > 15
    assert [message for message in quoted if not any(template.fullmatch(message) for template in known)] == []
