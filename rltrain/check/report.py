"""Findings and reports: each finding says what is wrong and what to do about it."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

WIDTH = 110  # columns


@dataclass(frozen=True)
class Finding:
    """A fault of an environment.

    Attributes:
        check: Name of the check that found it.
        message: What is wrong, with the values in it.
        fix: What to do.
        level: ``error`` if training goes wrong or a rule is broken, ``warning`` if it may be intended.
    """

    check: str
    message: str
    fix: str
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.level} ({self.check}): {self.message}\n  fix: {self.fix}"


@dataclass(frozen=True)
class Report:
    """The outcome of all checks of one environment.

    Attributes:
        name: Name of the environment.
        facts: Observed properties by name: spaces, time limit, speed.
        passed: Names of the checks that found nothing.
        findings: Findings of the others, errors first.
    """

    name: str
    facts: dict[str, str]
    passed: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    @property
    def errors(self) -> list[Finding]:
        """The findings that are errors."""
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that are warnings."""
        return [finding for finding in self.findings if finding.level == "warning"]

    def summary(self) -> dict[str, Any]:
        """Everything, as ``rltrain check --json`` prints it."""
        return {
            "env": self.name,
            "ok": self.ok,
            "facts": self.facts,
            "passed": self.passed,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        lines = [self.name, *(f"  {name:<13}{text}" for name, text in self.facts.items()), ""]
        if self.passed:
            lines += _wrapped(f"passed: {', '.join(self.passed)}", "  ")
        for finding in self.findings:
            lines += ["", *_wrapped(f"{finding.level} ({finding.check}): {finding.message}", "  ")]
            lines += [f"  {line}" for line in _wrapped(f"fix: {finding.fix}", "  ")]
        counts = [_count(len(self.errors), "error"), _count(len(self.warnings), "warning")]
        return "\n".join([*lines, "", ", ".join(counts) if self.findings else "nothing to complain about"])


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH, subsequent_indent=indent, break_long_words=False)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
