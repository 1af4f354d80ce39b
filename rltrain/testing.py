"""Tests for plugins: every check of an environment as a test.

Three lines of a test file::

    from rltrain.testing import conformance_tests

    globals().update(conformance_tests("you/Walk-v0"))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from rltrain.check.conformance import Check, run_check, subject_of
from rltrain.env import TensorEnv


def conformance_tests(
    env: str | type[TensorEnv[Any]], *, skip: Collection[str] = (), strict: bool = False, **kwargs: Any
) -> dict[str, Callable[[], None]]:
    """One test for each check of ``rltrain check``, by the name of a test function.

    Args:
        env: An id of ours or of Gymnasium's, or a :class:`~rltrain.env.TensorEnv` class.
        skip: Names of checks to leave out, as ``rltrain check`` prints them.
        strict: Whether warnings fail as well.
        **kwargs: Constructor arguments of the environment.

    Raises:
        ConfigError: There is no such environment. (Is the package installed that registers it?)
        ValueError: ``skip`` names a check that does not exist.
    """
    subject, checks = subject_of(env, **kwargs)
    if unknown := set(skip) - set(checks):
        raise ValueError(f"no checks: {', '.join(sorted(unknown))}; there are: {', '.join(checks)}")
    name = re.sub(r"\W+", "_", env if isinstance(env, str) else env.__name__)
    return {
        f"test_{name}_{check_name.replace(' ', '_')}": _test(check, check_name, subject, strict)
        for check_name, check in checks.items()
        if check_name not in skip
    }


def _test(check: Check, name: str, subject: Any, strict: bool) -> Callable[[], None]:
    def test() -> None:
        __tracebackhide__ = True  # the findings say more than these lines
        found = [finding for finding in run_check(check, subject, name) if strict or finding.level == "error"]
        assert not found, "\n" + "\n".join(map(str, found))

    test.__doc__ = check.__doc__
    return test
