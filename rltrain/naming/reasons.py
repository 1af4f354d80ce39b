"""What a person may have meant by an environment's name, and why what was named cannot be imported or made."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from rltrain.errors import plain

VERSION = re.compile(r"-v(\d+)$")

PACKAGES = {
    "ale_py": "ale-py",
    "Box2D": "gymnasium[box2d]",
    "mujoco": "gymnasium[mujoco]",
    "cv2": "opencv-python",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
}
"""What to install for a missing module whose package has another name."""
LIBRARIES = {
    "libGL.so": "libgl1",
    "libEGL.so": "libegl1",
    "libGLX.so": "libglx0",
    "libOSMesa.so": "libosmesa6",
    "libglfw.so": "libglfw3",
    "libGLU.so": "libglu1-mesa",
    "libgomp.so": "libgomp1",
    "libSM.so": "libsm6",
    "libXext.so": "libxext6",
    "libXrender.so": "libxrender1",
    "libX11.so": "libx11-6",
    "libglib-2.0.so": "libglib2.0-0",
    "libgthread-2.0.so": "libglib2.0-0",
    "libstdc++.so": "libstdc++6",
}
"""The package of Debian and Ubuntu that has a system library."""
BETWEEN = {"rltrain", "gymnasium", "numpy", "torch", *sys.stdlib_module_names} - {"__main__"}
"""What calls an environment, or is called by it: a mistake in an environment is not in their lines."""
OLD_GYM = (
    "an environment of Gym, which Gymnasium has replaced",
    "Change 'import gym' to 'import gymnasium as gym', or wrap it: pip install 'shimmy[gym-v26]', and "
    "'module:function' of a function that returns shimmy.GymV26CompatibilityV0(env=...).",
)
"""What an environment of old Gym is, and what to do."""
VARIABLE = re.compile(
    r"(?:environment variable|env var|variable|set|export|declare|define)\W{1,4}([A-Z][A-Z0-9]*_[A-Z0-9_]+)"
    r"|\b([A-Z][A-Z0-9]*_[A-Z0-9_]+)\b\W*(?:is not set|not set|must be set|should be set|environment variable)"
)


def did_you_mean_env(id: str, known: Iterable[str], otherwise: str) -> str:
    """A fix line that names the environment that was meant, or ``otherwise``.

    It is offered only where the name is the same but for its version, namespace and case, or has one or two letters
    wrong: another robot is no help.
    """
    ids = list(known)
    same = [each for each in ids if _bare(each) == _bare(id)]
    near = same or [each for each in ids if _is_typo(id.lower(), each.lower())]
    if not near:
        return otherwise
    space = id.rpartition("/")[0].lower()
    typed = _version(id)
    best = max(
        near, key=lambda each: (each.rpartition("/")[0].lower() == space, _version(each) == typed, _version(each))
    )
    return f"Did you mean '{best}'?"


def _bare(id: str) -> str:
    """The name without namespace, version, case and punctuation."""
    return re.sub(r"[\W_]", "", VERSION.sub("", id.rpartition("/")[2])).lower()


def _version(id: str) -> int:
    found = VERSION.search(id)
    return int(found[1]) if found else -1


def _is_typo(word: str, meant: str) -> bool:
    """Whether one or two letters were left out, added, changed or swapped; one in a short name."""
    most = 1 if len(_bare(meant)) < 6 else 2
    if abs(len(word) - len(meant)) > most:
        return False
    before: list[int] = []
    row = list(range(len(meant) + 1))
    for i, a in enumerate(word, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(meant, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == meant[j - 2] and word[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1] <= most


def reason_of(error: BaseException) -> str:
    """An exception in one line: its class and its message, or, where it has none, the line that raised it."""
    text = " ".join(plain(str(error)).split()).rstrip(".")
    if not text and (raised := traceback.extract_tb(error.__traceback__)[-1:]):
        place = f"line {raised[0].lineno} of {Path(raised[0].filename).name}"
        text = f"{raised[0].line} ({place})" if raised[0].line else place
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def fix_at(error: BaseException, *, otherwise: str = "") -> str:
    """What to do about an exception that somebody's code raised: the line is named, and whose it is.

    Args:
        error: The exception, with its traceback.
        otherwise: What may help where the code is not the user's own, such as ``Leave films out``.
    """
    place = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", ""))
        of_gymnasium = module.startswith("gymnasium.envs.") and module != "gymnasium.envs.registration"
        if of_gymnasium or module.partition(".")[0] not in BETWEEN:
            place = Path(frame.f_code.co_filename).as_posix(), line
    if place is None:
        return "--debug shows where."
    path, line = place
    _, installed, inside = path.rpartition("/site-packages/")
    if not installed:
        return f"Mend line {line} of {Path(path).name}; --debug shows the whole traceback."
    advice = otherwise or "Other arguments (--env.kwargs) may avoid it; its authors can mend it"
    return f"It is in line {line} of {inside}. {advice}; --debug shows the whole traceback."


def fix_of_init(error: BaseException) -> str:
    """What to do where the constructor of a tensor environment has not called that of its base; empty elsewhere."""
    missing = isinstance(error, AttributeError) and error.name in ("device", "dtype")
    return "Call super().__init__(device=device, dtype=dtype) first." if missing else ""


def command_in(error: BaseException) -> str:
    """The last ``pip install`` that the message of an exception advises; empty if there is none."""
    found = re.findall(r"pip install (?:-U |--upgrade )?(?![-.])[^`'\s]*(?:\"[^\"]+\"|[^`'\s,]+)", plain(str(error)))
    return found[-1].rstrip(".") if found else ""


def remedy_for(error: BaseException) -> tuple[str, str] | None:
    """What is missing according to an exception of another library, and what to do about it; None where it is unclear.

    Returns:
        A clause such as ``the environment variable SUMO_HOME, which is not set``, and a fix.
    """
    text = " ".join(plain(str(error)).split())
    if library := re.search(r"\b(lib[\w.+-]+?\.so)[\w.]*\b", text):
        package = LIBRARIES.get(library[1])
        fix = f"Install it: apt-get install {package}, or your system's package of it." if package else ""
        return (
            f"the system library {library[0]}, which is missing",
            fix or f"Install the package of your system that has {library[1]}.",
        )
    if type(error).__name__ == "NoSuchDisplayException" or "No available video device" in text:  # pyglet's, pygame's
        return (
            "a display, and there is none",
            "Give it one that nobody sees: apt-get install xvfb, and xvfb-run -a rltrain ...; pygame can do without, "
            "with SDL_VIDEODRIVER=dummy.",
        )
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing:
        top = missing.partition(".")[0]
        return f"{missing}, which is not installed", f'pip install "{PACKAGES.get(top, top)}"'
    variable = VARIABLE.search(text)
    name = next((group for group in variable.groups() if group), "") if variable else ""
    if isinstance(error, KeyError) and re.fullmatch(r"'[A-Z][A-Z0-9]*(_[A-Z0-9]+)+'", text):  # os.environ["SUMO_HOME"]
        name = text.strip("'")
    if name:
        return f"the environment variable {name}, which is not set", f"Set it before you start: export {name}=..."
    if isinstance(error, FileNotFoundError) and error.filename and "/" not in str(error.filename):
        program = str(error.filename)
        if "." not in program:
            return f"the program {program}, which is not installed", f"Install {program}, and add its folder to PATH."
    return None
