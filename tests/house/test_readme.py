"""The commands and snippets of the README and of docs/, run as a reader would run them."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest

from rltrain.registry import env_specs

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if not path.is_relative_to(ROOT / "docs/site")
}
README = PAGES["README.md"]
BIN = Path(sys.executable).parent


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands(*pages: str) -> list[str]:
    """The shell commands of some pages, each once, without comments and line continuations; make's are left out."""
    text = "".join(block for page in pages for block in blocks("sh", page)).replace("\\\n", " ")
    found = [line.partition(" #")[0].strip() for line in text.splitlines() if not line.startswith("make ")]
    return list(dict.fromkeys(found))


SNIPPETS = list(dict.fromkeys(snippet for page in PAGES.values() for snippet in blocks("python", page)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all commands of the README and then of docs/ have been run, in their order."""
    place = tmp_path_factory.mktemp("reader")
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(place / "site")}
    for command in commands(*PAGES.values()):
        if command.startswith("pip install -e"):  # beside the reader's folder: nothing is left behind
            options = "--quiet --no-index --no-deps --no-build-isolation --target site"
            command = f"{sys.executable} -m {command.replace('-e', options)}"
        if command.startswith("rltrain tensorboard"):  # serves until somebody ends it; a test of its own does
            continue
        if command.startswith(("rltrain", sys.executable)):
            done = subprocess.run(shlex.split(command), cwd=place, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
    return place


def test_the_first_lines_are_the_two_commands() -> None:
    assert [line.split()[:2] for line in blocks("sh")[0].splitlines()] == [["make", "train"], ["make", "test"]]
    assert README.index("make train") < 200


def test_commands_leave_what_they_say(folder: Path) -> None:
    assert (folder / "runs/rltrain-CartPole-v1/ppo_1/config.yaml").exists()  # what make train leaves has this name too
    run = folder / "trial" / "rltrain-CartPole-v1" / "ppo_1"
    steps = sorted(int(path.name.removeprefix("step_")) for path in (run / "checkpoints").glob("step_*"))
    assert 20_000 <= steps[0] < 30_000 <= steps[-1]
    assert (folder / "cartpole.gif").read_bytes()[:4] == b"GIF8"
    assert (folder / "curve.png").read_bytes()[1:4] == b"PNG"
    metadata = json.loads((run / "metadata.json").read_text())
    assert metadata["status"] == "completed"
    assert len(metadata["resumed_at"]) == 1


def test_tensorboard_serves_the_curves(folder: Path) -> None:
    (command,) = (command for command in commands(README) if command.startswith("rltrain tensorboard"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [str(BIN / "rltrain"), *shlex.split(command)[1:], "--port", str(port)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/data/plugin/scalars/tags"
    wanted = {"rollout/ep_rew_mean", "train/approx_kl", "train/grad_norm", "time/fps", "eval/mean_reward"}
    found: dict[str, dict[str, object]] = {}
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not wanted <= set(found.get("rltrain-CartPole-v1/ppo_1", ())):
            time.sleep(0.5)
            try:
                found = json.load(urllib.request.urlopen(url, timeout=5))
            except OSError:
                assert server.poll() is None, "tensorboard stopped"
    finally:
        server.terminate()
        server.wait()
    assert wanted <= set(found["rltrain-CartPole-v1/ppo_1"])


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number: int, folder: Path) -> None:
    script = SNIPPETS[number]
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_new_environment_is_about_twenty_lines_and_learns(folder: Path) -> None:
    (script,) = (block for block in blocks("python") if "class WalkHome" in block)
    body = script[script.index("@dataclass") : script.index("result =")]
    assert sum(bool(line.strip()) for line in body.splitlines()) <= 22
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert float(done.stdout.splitlines()[-1]) > -6.0  # at most 8 steps from home, 4 on average; at random about -25


# Scores that snippets of the guides reach; at random about 20, 20 and 0.
LEAST = {"class Reinforce(": 150.0, "optimizer.zero_grad()": 100.0, "class RecurrentReinforce(": 0.9}

GUIDES = [
    (file, number)
    for file in ("agents/README.md",)
    for number in range(len(blocks("python", (ROOT / file).read_text(encoding="utf-8"))))
]


@pytest.mark.parametrize(("file", "number"), GUIDES)
def test_snippets_of_the_guides_run(file: str, number: int, tmp_path: Path) -> None:
    script = blocks("python", (ROOT / file).read_text(encoding="utf-8"))[number]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, least in LEAST.items():
        if name in script:
            assert float(done.stdout.splitlines()[-1]) > least
    if "class Lengths" in script:
        assert done.stdout.splitlines()[-1] == "callback 500"


def test_the_agent_of_the_guide_is_about_sixty_lines_and_resumes_exactly(tmp_path: Path) -> None:
    text = (ROOT / "agents/README.md").read_text(encoding="utf-8")
    (script,) = (block for block in blocks("python", text) if "class Reinforce(" in block)
    code, _, _ = script.partition("result =")
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 80  # imports and settings included
    code += """
runs = [rltrain.train("reinforce", env, num_envs=8, total_timesteps=total, n_eval_episodes=2, progress=False).run_dir
        for env in ("rltrain/CartPole-v1", "rltrain/Pendulum-v1", "rltrain/Maze-v0") for total in (2_048, 4_096)]
for half, whole in zip(runs[::2], runs[1::2]):
    rltrain.resume(half, total_timesteps=4_096, progress=False)
    file = "checkpoints/step_000000004096/policy.safetensors"
    assert (half / file).read_bytes() == (whole / file).read_bytes()
    assert rltrain.load(half).evaluate(2, deterministic=False).returns.shape == (2,)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_environment_of_the_guide_for_contributors_keeps_its_promises() -> None:
    from rltrain import check_env

    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (script,) = (block for block in blocks("python", text) if "class Walk(" in block)
    namespace: dict[str, object] = {"__name__": "guide"}
    exec(script, namespace)
    report = check_env(namespace["Walk"])  # type: ignore[arg-type]
    assert report.findings == [], str(report)


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "SECURITY.md", "agents/README.md"])
def test_files_and_folders_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"`((?:rltrain|envs|agents|configs|benchmarks|tests|docs)/[\w./-]*|[A-Z]+\.md)`", text):
        assert (ROOT / name).exists() or name in env_specs(), name
    for link, heading in re.findall(r"\]\(((?!https?:)[\w./-]*)(?:#([\w-]+))?\)", text):
        target = (ROOT / page).parent / link if link else ROOT / page
        assert target.exists(), link
        assert not heading or heading in headings(target), f"{link}#{heading}"


def headings(page: Path) -> set[str]:
    """What links to the sections of a page end with."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_names_every_page() -> None:
    for page in PAGES:
        assert page in ("README.md", "docs/README.md") or f"]({page.removeprefix('docs/')})" in PAGES["docs/README.md"]
        assert page in ("README.md", "docs/README.md") or page.count("/") > 1 or f"]({page})" in README


def test_what_is_installed_from_the_checkout_is_there_to_be_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = "".join((*PAGES.values(), (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    found = re.findall(r"pip install -c (\S+) -e '?\.(?:\[([\w,]+)\])?", text)
    assert len(found) >= 5
    for constraints, extras in found:
        assert (ROOT / constraints).is_file()
        assert set(filter(None, extras.split(","))) <= set(project["project"]["optional-dependencies"])
