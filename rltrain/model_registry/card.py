"""The model card of a policy: Markdown with Hugging Face's metadata, what is known filled in, the rest asked for.

The keys of the metadata are those of https://huggingface.co/docs/hub/model-cards, ``model-index`` among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rltrain.errors import CheckpointError, ConfigError
from rltrain.runs.summary import RunSummary, changed_settings, read_run, read_runs
from rltrain.storage.files import Damaged, read_text, reason
from rltrain.storage.yaml_text import safe_load

ASKED = {
    "Intended use": "what the policy is for, and who is to use it",
    "Out-of-scope use": "what it must not be used for",
    "Limits": "what is known to go wrong, and where it was never tried",
}
"""Sections that a person has to write, and what each is about."""
LICENSE = "license"
"""The entry of the metadata that a person has to write."""
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LIMIT = 2**20  # bytes of a card


@dataclass
class Card:
    """A card that was read.

    Attributes:
        metadata: The YAML at its head.
        sections: The text below each heading, without comments, by the heading in lower case.
        further: The headings below the first level, as they are written.
    """

    metadata: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)
    further: list[str] = field(default_factory=list)

    def says(self, name: str) -> bool:
        """Whether something is said under a heading, or by an entry of the metadata."""
        return bool(self.sections.get(name.lower()) or str(self.metadata.get(name.lower()) or "").strip())

    def missing(self) -> list[str]:
        """What a person has to write and nobody has written."""
        return [name for name in (*ASKED, LICENSE) if not self.says(name)]


def parse_card(text: str) -> Card:
    """The parts of a card. Metadata that is no YAML counts as none."""
    metadata: Any = {}
    if (head := re.match(r"---\r?\n(.*?)\r?\n---\r?\n", text, re.DOTALL)) is not None:
        text = text[head.end() :]
        try:
            metadata = safe_load(head[1])
        except (yaml.YAMLError, Damaged, ValueError, RecursionError):
            metadata = {}
    parts = re.split(r"^(#+)\s*(.*?)\s*$", COMMENT.sub("", text), flags=re.MULTILINE)[1:]
    rows = list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))
    sections = {heading.lower(): body.strip() for _, heading, body in rows}
    known = {str(key): value for key, value in metadata.items()} if isinstance(metadata, dict) else {}
    return Card(known, sections, [heading for marks, heading, _ in rows if len(marks) > 1])


def card_text(path: Path) -> str:
    """The text of a card.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return read_text(path, LIMIT)
    except (OSError, Damaged) as error:
        raise ConfigError(f"The card '{path}' cannot be read: {reason(error)}.", "Name a Markdown file.") from error


def make_card(
    run: str | Path, *, written: Card | None = None, checks: Sequence[Mapping[str, Any]] = (), title: str = ""
) -> str:
    """The card of a run, or of a version in a registry.

    Args:
        run: Its folder.
        written: A card of it from before: what a person wrote there is kept.
        checks: What the gate has found, as the registry's log has it.
        title: Its name; that of the run by default.

    Raises:
        CheckpointError: It is no run.
    """
    summary = read_run(Path(run))
    if summary.problem:
        raise CheckpointError(summary.problem, summary.fix)
    written = written or Card()
    title = _line(title or f"{summary.agent} in {summary.env}")
    parts = [f"---\n{_metadata(summary, written, title)}---\n\n# {title}\n\n{_about(summary)}"]
    sections = {
        "Intended use": _asked("Intended use", written),
        "Out-of-scope use": _asked("Out-of-scope use", written),
        "Training data": _data(summary),
        "Evaluation": _evaluation(summary),
        "Seeds and spread": _seeds(summary) or written.sections.get("seeds and spread") or "One seed was trained.",
        "Slices": _slices(checks) or written.sections.get("slices") or "The gate has tried no slice.",
        "Limits": _asked("Limits", written),
        "Energy and cost": _cost(summary),
        "Software": _software(summary),
        "How to use": f'```python\nimport rltrain\n\npolicy = rltrain.load("{Path(run).name}")\n'
        "action, state = policy.predict(obs)\n```",
    }
    own = {name.lower() for name in sections}
    more = {name: written.sections[name.lower()] for name in written.further if name.lower() not in own}
    parts += [f"## {name}\n\n{text}" for name, text in {**sections, **more}.items()]
    return "\n\n".join(parts) + "\n"


def _metadata(run: RunSummary, written: Card, title: str) -> str:
    score, facts = run.evaluation, dict(written.metadata)
    data = run.metadata.get("dataset")
    own: dict[str, Any] = {
        LICENSE: facts.pop(LICENSE, "") or "",
        "library_name": "rltrain",
        "pipeline_tag": "reinforcement-learning",
        "tags": list(dict.fromkeys(["reinforcement-learning", "deep-reinforcement-learning", run.agent, run.env])),
    }
    if isinstance(data, Mapping):
        own["datasets"] = [str(data.get("name", ""))]
    results = []
    if score:
        value = f"{score['mean_reward']:.2f} +/- {score.get('std_reward', float('nan')):.2f}"
        result = {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"name": run.env, "type": run.env},
            "metrics": [{"type": "mean_reward", "name": "mean_reward", "value": value, "verified": False}],
        }
        results.append(result)
    own["model-index"] = [{"name": title, "results": results}]
    text = yaml.safe_dump({**own, **{k: v for k, v in facts.items() if k not in own}}, sort_keys=False)
    ask = "" if own[LICENSE] else "  # to be written: the licence, such as mit or proprietary"
    return text.replace(f"{LICENSE}: ''\n", f"{LICENSE}: ''{ask}\n", 1)


def _about(run: RunSummary) -> str:
    facts = run.metadata
    rows = {
        "agent": run.agent,
        "environment": run.env,
        "trained for": f"{run.steps:,} steps" if run.steps is not None else "",
        "seed": run.seed,
        "settings that differ from the defaults": ", ".join(f"{k} = {v}" for k, v in changed_settings(run).items()),
        "command": facts.get("command"),
        "commit": facts.get("git_commit"),
        "trained on": facts.get("started"),
    }
    return _table(("", ""), [(name, _code(value)) for name, value in rows.items() if value not in (None, "")])


def _asked(name: str, written: Card) -> str:
    return written.sections.get(name.lower()) or f"<!-- to be written: {ASKED[name]} -->"


def _data(run: RunSummary) -> str:
    facts = run.metadata
    given = {key: value for key, value in run.settings.items() if key.startswith("env.kwargs.")}
    changed = ", ".join(f"{key.removeprefix('env.kwargs.')} = {value}" for key, value in given.items())
    text = f"Episodes of `{_line(run.env)}`{f' with {_code(changed)}' if changed else ''}, played while it was trained."
    data = facts.get("dataset")
    if isinstance(data, Mapping):
        text = (
            f"The dataset {_code(data.get('name'))} with the checksum {_code(data.get('checksum'))}; its card says "
            "where it came from."
        )
    spaces = [("observations", facts.get("observation_space")), ("actions", facts.get("action_space"))]
    return text + "\n\n" + _table(("", "space"), [(name, _code(space)) for name, space in spaces if space])


def _evaluation(run: RunSummary) -> str:
    score = run.evaluation
    if not score:
        return "It was not evaluated at the end of training."
    text = f"Mean return {score['mean_reward']:.2f} over {score.get('episodes', '?')} fresh episodes"
    ci: Any = score.get("ci95")
    if _numbers(ci, 2):
        text += f", 95% interval {ci[0]:.2f} to {ci[1]:.2f}"
    if _numbers([score.get("iqm"), score.get("min"), score.get("max")], 3):
        text += f"; interquartile mean {score['iqm']:.2f}, from {score['min']:.2f} to {score['max']:.2f}"
    return text + ". Nobody else has verified it."


def _seeds(run: RunSummary) -> str:
    """The scores of the runs beside it that differ from it by their seed alone."""
    try:
        beside = read_runs([run.path.absolute().parent])
    except CheckpointError:
        return ""
    alike = [each for each in beside if _settings(each) == _settings(run) and each.score is not None]
    scores = {each.seed: float(each.score) for each in alike if each.score is not None}
    if len(scores) < 2:
        return ""
    values = np.array(list(scores.values()))
    spread = f"mean {values.mean():.2f}, deviation {values.std(ddof=1):.2f}, {values.min():.2f} to {values.max():.2f}"
    rows = [(str(seed), f"{score:.2f}") for seed, score in sorted(scores.items(), key=lambda each: str(each[0]))]
    return f"{len(scores)} seeds with the same settings: {spread}.\n\n" + _table(("seed", "mean return"), rows)


def _settings(run: RunSummary) -> dict[str, Any]:
    return {name: value for name, value in run.settings.items() if name != "seed"}


def _slices(checks: Sequence[Mapping[str, Any]]) -> str:
    rows = [(_line(each["name"]), "yes" if each["passed"] else "no", _line(each["said"])) for each in checks]
    return _table(("condition", "passed", "what the gate found"), rows) if rows else ""


def _cost(run: RunSummary) -> str:
    cost = run.metadata.get("cost")
    cost = cost if isinstance(cost, Mapping) else {}
    seconds = cost.get("seconds", run.seconds)
    parts = [f"{seconds:,.0f} s of training"] if _numbers([seconds], 1) else []
    if _numbers([cost.get("energy_kwh")], 1):
        parts.append(f"{cost['energy_kwh']:.4g} kWh (an estimate)")
    if _numbers([cost.get("money")], 1):
        parts.append(f"{cost['money']:.2f} {_line(cost.get('currency', ''))} (an estimate)")
    machine = f" on {_code(run.metadata['platform'])}" if run.metadata.get("platform") else ""
    lacking = [name for name, key in (("energy", "energy_kwh"), ("money", "money")) if key not in cost]
    rest = f" Not recorded: {' and '.join(lacking)}." if lacking else ""
    return f"{', '.join(parts) or 'Not recorded'}{machine}.{rest}"


def _software(run: RunSummary) -> str:
    versions = run.metadata.get("versions")
    rows = [(_line(name), _code(each)) for name, each in versions.items()] if isinstance(versions, Mapping) else []
    below = "`rltrain models sbom` writes all packages with their licences."
    return f"{_table(('package', 'version'), rows)}\n\n{below}" if rows else below


def _numbers(values: Any, count: int) -> bool:
    """Whether these are so many numbers."""
    return isinstance(values, Iterable) and [type(each) in (int, float) for each in values] == [True] * count


def _line(value: Any) -> str:
    """A text in one line that means nothing to Markdown's tables, headings and comments."""
    return " ".join(str(value).replace("|", "\\|").replace("<", "&lt;").split())


def _code(value: Any) -> str:
    return f"`{' '.join(str(value).replace('`', chr(39)).replace('|', '/').split())}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)
