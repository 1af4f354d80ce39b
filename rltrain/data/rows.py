"""Puts the rows of a table together to episodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from rltrain.data.columns import ACTION, OBS, REWARD, TERMINATED, TRUNCATED
from rltrain.data.mapping import Mapping
from rltrain.data.personal import Noise, noised, pseudonym
from rltrain.data.writer import DatasetWriter
from rltrain.errors import DatasetError

TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0", "")


class RowReader:
    """Puts rows together to episodes; see :func:`~rltrain.data.tables.import_table`.

    Args:
        mapping: What the columns mean.
        key: The key of hashes.
        rng: Draws the noise.
    """

    def __init__(self, mapping: Mapping, key: bytes | None, rng: np.random.Generator) -> None:
        self.mapping, self.key, self.rng = mapping, key, rng
        self.running: dict[str, list[dict[str, Any]]] = {}
        self.over: set[str] = set()
        self.policies: list[str] = []
        self.rows = self.dropped = 0
        choices = mapping.actions if isinstance(mapping.actions, list) else range(mapping.actions or 0)
        self.choices = {_text(choice): number for number, choice in enumerate(choices)}

    def take(self, batch: dict[str, list[Any]], writer: DatasetWriter) -> None:
        """Takes rows, and adds the episodes that are over."""
        mapping = self.mapping
        for values in zip(*batch.values(), strict=True):
            self.rows += 1
            row = dict(zip(batch, values, strict=True))
            episode = _text(row[mapping.episode])
            if episode in self.over:
                what = f"Row {self.rows} belongs to the episode '{self._shown(episode)}', which is over."
                raise DatasetError(what, "Sort the table by time, or map another column as episode.")
            self.running.setdefault(episode, []).append(row)
            if self._flag(row, mapping.terminated) or self._flag(row, mapping.truncated):
                self.over.add(episode)
                self._add(self.running.pop(episode), writer)

    def finish(self, writer: DatasetWriter) -> None:
        """Adds the episodes that have no end in the table."""
        for rows in self.running.values():
            self._add(rows, writer)

    def remarks(self) -> str:
        """What a reader of the card should know."""
        return f"{self.dropped:,} episodes with empty cells were left out." if self.dropped else ""

    def _shown(self, episode: str) -> str:
        hidden = self.mapping.episode in self.mapping.personal
        return "..." if hidden else episode[:60]

    def _add(self, rows: list[dict[str, Any]], writer: DatasetWriter) -> None:
        mapping = self.mapping
        used = [name for name in mapping.read() if name not in (mapping.terminated, mapping.truncated)]
        empty = next(((n, name) for n, row in enumerate(rows) for name in used if _is_empty(row[name])), None)
        if empty is not None:
            if mapping.incomplete == "drop":
                self.dropped += 1
                return
            what = f"'{empty[1]}' is empty in row {empty[0] + 1} of an episode."
            raise DatasetError(what, "Fill it in, or leave such episodes out: 'incomplete: drop' in the mapping.")
        columns: dict[str, np.ndarray] = {}
        masked = mapping.action_mask is not None
        for name, parts in mapping.observed.items():
            column = f"{OBS}.{name or 'observation'}" if name or masked else OBS
            columns[column] = np.stack([self._numbers(rows, part) for part in parts], 1).astype(np.float32)
        if mapping.action_mask is not None:
            mask = [[self._flag(row, part) for part in mapping.action_mask] for row in rows]
            columns[f"{OBS}.action_mask"] = np.array(mask, np.int8)
        if mapping.actions is None:
            columns[ACTION] = np.stack([self._numbers(rows, part) for part in mapping.acted], 1).astype(np.float32)
        else:
            columns[ACTION] = np.array([self._choice(row) for row in rows], np.int64)
        columns[REWARD] = self._numbers(rows, mapping.reward).astype(np.float32)
        terminated = np.array([self._flag(row, mapping.terminated) for row in rows])
        truncated = np.array([self._flag(row, mapping.truncated) for row in rows]) & ~terminated
        if not terminated[-1] and not truncated[-1]:
            terminated[-1] = mapping.last_step == "terminated"
            truncated[-1] = mapping.last_step == "truncated"
        columns |= {TERMINATED: terminated, TRUNCATED: truncated}
        groups = {name: [self._group(name, rows)] for name in mapping.groups}
        policy = _text(rows[0][mapping.policy]) if mapping.policy is not None else "unknown"
        if mapping.policy is not None and mapping.personal.get(mapping.policy) == "hash" and self.key is not None:
            policy = pseudonym(policy, self.key)
        if policy not in self.policies:
            self.policies.append(policy)
        finals = {name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in columns.items() if _seen(name)}
        number = self.policies.index(policy)
        writer.add(columns, [len(rows)], finals, policies=number, has_final=False, groups=groups)

    def _group(self, name: str, rows: list[dict[str, Any]]) -> str:
        values = {_text(row[name]) for row in rows}
        if len(values) > 1:
            what = f"An episode has several values of the group '{name}'."
            raise DatasetError(what, "Map as episode a column that changes with it, or take it out of groups.")
        value = values.pop()
        return pseudonym(value, self.key) if self.mapping.personal.get(name) == "hash" and self.key else value

    def _numbers(self, rows: list[dict[str, Any]], name: str) -> np.ndarray:
        try:
            values = np.array([float(row[name]) for row in rows])
        except (TypeError, ValueError) as error:
            raise DatasetError(
                f"'{name}' holds something that is no number.", "Map another column, or mend it."
            ) from error
        treatment = self.mapping.personal.get(name)
        return noised(values, treatment.noise, self.rng) if isinstance(treatment, Noise) else values

    def _choice(self, row: dict[str, Any]) -> int:
        value = _text(row[self.mapping.acted[0]])
        if value not in self.choices:
            raise DatasetError(
                f"The action '{value[:60]}' is none of those that the mapping lists.", "Add it to actions."
            )
        return self.choices[value]

    def _flag(self, row: dict[str, Any], name: str | None) -> bool:
        if name is None:
            return False
        text = _text(row[name]).lower()
        if text not in TRUE and text not in FALSE:
            raise DatasetError(
                f"'{name}' holds '{text[:60]}', which is neither true nor false.", "Write true or false."
            )
        return text in TRUE


def _seen(name: str) -> bool:
    return name.partition(".")[0] == OBS


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _text(value: Any) -> str:
    """A cell as text; a whole number in one form, wherever it comes from."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text
