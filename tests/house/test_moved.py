"""Import paths that documentation once showed still lead to the same classes and functions."""

from __future__ import annotations

import importlib

import pytest

from rltrain.moved import MODULES


@pytest.mark.parametrize(("old", "new"), MODULES.items())
def test_an_old_path_gives_what_the_new_one_does(old: str, new: str) -> None:
    before, now = importlib.import_module(old), importlib.import_module(new)
    public = [name for name in vars(now) if not name.startswith("_")]
    assert public
    assert all(getattr(before, name) is getattr(now, name) for name in public)


def test_an_old_path_works_as_documentation_showed_it() -> None:
    from rltrain.adapters.sb3 import make_sb3_vec  # type: ignore[import-not-found]
    from rltrain.agents.networks import mlp  # type: ignore[import-not-found]

    from rltrain.agents.parts.networks import mlp as moved
    from rltrain.sb3.vec_env import make_sb3_vec as also_moved

    assert (make_sb3_vec, mlp) == (also_moved, moved)


def test_other_names_are_still_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'rltrain\.agents\.nothing'"):
        importlib.import_module("rltrain.agents.nothing")
