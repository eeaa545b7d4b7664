"""The model of all measurements: subjects, cases, and the figures of each round; and their JSON.

    {"format": "hailer-bench/1", "kind": "relay", "command": "hailer bench relay",
     "conditions": {"python": "CPython 3.13.1", ...},
     "subjects": [{"name": "nats", "version": "...", "settings": "..."}, ...],
     "cases": [{"load": "pipeline", "title": "pipeline, 10 pairs", "values": {"count": 10}}, ...],
     "rows": [{"case": "pipeline, 10 pairs", "subject": "nats", "round": 1, "figures": {"p50_us": 71}}, ...],
     "notes": ["..."],
     "reading": ["For this machine: ..."],
     "percentiles": [{"case": "...", "subject": "...", "points": [[50, 71.0], [99, 130.0]]}, ...]}

All rounds are kept, not the medians alone. What failed is a note, never a figure of 0.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hailer.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["BUSY", "FORMAT", "Case", "Curve", "Results", "Row", "Subject", "load", "parse"]

FORMAT: Final = "hailer-bench/1"
BUSY: Final = 0.95
"""The share of its core from which on a process counts as the limit."""

_MOST_BYTES: Final = 64 * 1024 * 1024
"""Of a file of results: one of a long run has less than 1 MiB."""

Curve = list[tuple[float, float]]
"""Latencies: pairs of a percentage (0 to 100, rising) and the microseconds within which so many were."""


@dataclass(frozen=True)
class Subject:
    """What is measured: a relay, a model, an endpoint.

    Attributes:
        name: one word; the column in tables.
        version: what it says of itself.
        settings: how it is set, for the reader.
    """

    name: str
    version: str = ""
    settings: str = ""


@dataclass(frozen=True)
class Case:
    """One load at one size: a row of a table. Two are equal if their titles are.

    Attributes:
        load: what kind of load, such as ``pipeline``.
        title: all of it in words, such as ``pipeline, 10 pairs, 1 KiB``.
        values: its parameters, such as count, size, transport.
    """

    load: str = field(compare=False)
    title: str
    values: dict[str, str | int | float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Row:
    """The figures of one subject under one load in one round.

    Attributes:
        case: the title of the case.
        subject: the name of the subject.
        round: 1 for the first.
        figures: by their names, see `hailer.tools.bench.figures`.
    """

    case: str
    subject: str
    round: int
    figures: dict[str, float]


@dataclass
class Results:
    """What was measured.

    Attributes:
        kind: ``relay``, ``models`` or ``endpoint``.
        command: what to type to repeat it.
        conditions: what the figures depend on, see `hailer.tools.bench.conditions`.
        subjects: the columns of its tables, in order.
        cases: the rows of its tables, in order.
        rows: everything that was measured, in the order of time.
        notes: what the reader must know: failures, what was not there, an early end.
        percentiles: latencies by case's title and subject's name, over all rounds.
        reading: what the figures say, in sentences; for who wants the answer before the tables.
    """

    kind: str
    command: str
    conditions: dict[str, str] = field(default_factory=dict)
    subjects: list[Subject] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    percentiles: dict[tuple[str, str], Curve] = field(default_factory=dict)
    reading: list[str] = field(default_factory=list)

    def add(self, case: Case, subject: Subject, round: int, figures: dict[str, float]) -> None:  # noqa: A002
        """Take the figures of one measurement; its case and subject become known if they are not.

        Args:
            case: the load.
            subject: who was under it.
            round: 1 for the first.
            figures: finite numbers; what was not measured is left out.

        Raises:
            ValueError: a figure is no finite number.
        """
        for name, value in figures.items():
            if not math.isfinite(value):
                raise ValueError(f"{name} of {subject.name}, {case.title} is {value}: leave it out")
        if case not in self.cases:
            self.cases.append(case)
        if all(subject.name != known.name for known in self.subjects):
            self.subjects.append(subject)
        self.rows.append(Row(case.title, subject.name, round, dict(figures)))

    def values(self, case_title: str, subject_name: str, figure: str) -> list[float]:
        """A figure in each round in which it was measured."""
        return [
            row.figures[figure]
            for row in self.rows
            if row.case == case_title and row.subject == subject_name and figure in row.figures
        ]

    def median(self, case_title: str, subject_name: str, figure: str) -> float | None:
        """The median of a figure over the rounds, None where it was not measured."""
        values = self.values(case_title, subject_name, figure)
        return statistics.median(values) if values else None

    def figures(self) -> list[str]:
        """The names of all figures that were measured, in the order of time."""
        return list(dict.fromkeys(name for row in self.rows for name in row.figures))

    def rounds(self) -> int:
        """The number of the last round."""
        return max((row.round for row in self.rows), default=0)

    def part(self, wanted: Callable[[Case], bool], subjects: Sequence[str] | None = None) -> Results:
        """Some of the cases, of some subjects. All subjects stay known, so that each keeps its colour.

        Args:
            wanted: whether a case is to be there.
            subjects: the names of those whose figures are to be there; None for all.
        """
        cases = [case for case in self.cases if wanted(case)]
        titles = {case.title for case in cases}

        def kept(title: str, name: str) -> bool:
            return title in titles and (subjects is None or name in subjects)

        rows = [row for row in self.rows if kept(row.case, row.subject)]
        curves = {key: curve for key, curve in self.percentiles.items() if kept(*key)}
        return replace(self, cases=cases, rows=rows, percentiles=curves)

    def load_was_limit(self, case_title: str, subject_name: str) -> bool:
        """Whether not the subject was the limit but the load: only the load's core was busy."""
        load = self.median(case_title, subject_name, "load_busy")
        subject = self.median(case_title, subject_name, "subject_busy")
        return load is not None and subject is not None and load >= BUSY > subject

    def as_json(self) -> dict[str, Any]:
        """All of it, as `json` takes it."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "command": self.command,
            "conditions": self.conditions,
            "subjects": [asdict(each) for each in self.subjects],
            "cases": [asdict(each) for each in self.cases],
            "rows": [asdict(each) for each in self.rows],
            "notes": self.notes,
            "reading": self.reading,
            "percentiles": [
                {"case": case, "subject": subject, "points": points}
                for (case, subject), points in self.percentiles.items()
            ],
        }

    def as_text(self) -> str:
        """Its JSON as text that ends with a newline."""
        return json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: Path | str) -> None:
        """Write it as JSON.

        Raises:
            StoreError: the file cannot be written.
        """
        try:
            Path(path).write_text(self.as_text(), encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{path} cannot be written ({error.strerror}): name another file") from error


def load(path: Path | str) -> Results:
    """Read what `Results.save` wrote.

    Raises:
        UsageError: the file cannot be read, or holds no results of this format.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}): name a file that --json wrote"
        ) from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than {_MOST_BYTES >> 20} MiB: name a file that --json wrote")
    try:
        return parse(data)
    except ValueError as error:
        raise UsageError(
            f"{path} holds no results of the format {FORMAT} ({error}):"
            " name a file that hailer bench wrote with --json"
        ) from error


def parse(data: bytes | str) -> Results:
    """Make results from their JSON.

    Raises:
        ValueError: it is no JSON, or of another form.
    """
    try:
        return _as_results(json.loads(data))
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _as_results(document: Any) -> Results:
    whole = _checked(document, dict, "it")
    if whole.get("format") != FORMAT:
        raise ValueError(f"its format is {whole.get('format')!r}"[:100])
    results = Results(
        _checked(whole["kind"], str, "kind"),
        _checked(whole["command"], str, "command"),
        {
            str(key): _checked(text, str, key)
            for key, text in _checked(whole["conditions"], dict, "conditions").items()
        },
        notes=[_checked(note, str, "a note") for note in _checked(whole["notes"], list, "notes")],
        reading=[
            _checked(text, str, "a sentence") for text in _checked(whole.get("reading", []), list, "reading")
        ],
    )
    for each in _objects(whole, "subjects"):
        name, version, settings = (_checked(each[key], str, key) for key in ("name", "version", "settings"))
        results.subjects.append(Subject(name, version, settings))
    for each in _objects(whole, "cases"):
        values = _checked(each["values"], dict, "values")
        for key, value in values.items():
            if not isinstance(value, str):
                _number(value, key)
        results.cases.append(
            Case(_checked(each["load"], str, "load"), _checked(each["title"], str, "title"), values)
        )
    for each in _objects(whole, "rows"):
        figures = {
            key: _number(value, key) for key, value in _checked(each["figures"], dict, "figures").items()
        }
        case, subject = _checked(each["case"], str, "case"), _checked(each["subject"], str, "subject")
        results.rows.append(Row(case, subject, _checked(each["round"], int, "round"), figures))
    for each in _objects(whole, "percentiles"):
        key = (_checked(each["case"], str, "case"), _checked(each["subject"], str, "subject"))
        results.percentiles[key] = [_point(pair) for pair in _checked(each["points"], list, "points")]
    return results


def _objects(whole: dict[str, Any], key: str) -> Sequence[dict[str, Any]]:
    return [_checked(each, dict, f"one of {key}") for each in _checked(whole[key], list, key)]


def _point(pair: Any) -> tuple[float, float]:
    if len(_checked(pair, list, "a point")) != 2:
        raise ValueError("a point of percentiles is no pair")
    return _number(pair[0], "a percentage"), _number(pair[1], "a latency")


def _number(value: Any, what: str) -> float:
    # A whole number that no float can hold is none of ours.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{what} is no number")
    return value


def _checked(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{what} is of a wrong type")  # noqa: TRY004 (all that is wrong with it is one kind)
    return value
