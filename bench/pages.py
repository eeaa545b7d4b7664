"""Make the pages, tables and pictures that show what was measured, from the raw results in this directory.

    python -m bench.pages      (make bench-pages; make bench measures first)

In a page the text between ``<!-- bench: NAME WHAT ... -->`` and ``<!-- end -->`` is made here: NAME is that
of a file of raw results, WHAT one of `BLOCKS`. A page says nothing in figures of its own.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hailer.errors import HailerError
from hailer.tools.bench.figures import FIGURES, ratio
from hailer.tools.bench.pictures import key_pictures
from hailer.tools.bench.relay.goals import verdicts
from hailer.tools.bench.results import load
from hailer.tools.bench.tables import as_markdown, markdown_of, plain, subjects_of, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.tools.bench.results import Case, Results

__all__ = ["BLOCKS", "PAGES", "PICTURES", "ROOT", "filled", "made", "main"]

ROOT: Final = Path(__file__).parents[1]
RAW: Final = ("relay", "durable", "models")
"""The raw results: ``bench/NAME.json``; all their tables are in ``bench/NAME.md``."""
PAGES: Final = ("README.md", "bench/README.md", "docs/explanation/speed.md", "docs/explanation/models.md")
PICTURES: Final = ROOT / "docs" / "pictures" / "bench"

_OF_MODELS: Final = {
    "models-clients": "an-echo-messages-by-clients",
    "models-latency": "latency-",
    "models-computes": "a-handler-that-computes",
    "models-waits": "a-handler-that-waits",
    "models-memory": "memory-of-an-open-connection",
}
"""The pictures of the models that pages show: their files' names, and how their own names begin."""

_MARKED: Final = re.compile(r"(<!-- bench: ([^\n]*?) -->)(.*?)(<!-- end -->)", re.DOTALL)
_RIVALS: Final = ("nats", "redis", "mosquitto", "ngircd")
_STREAMS: Final = ("pipeline", "scatter", "fanout")
_MOVING: Final = (*_STREAMS, "pingpong", "mixed", "mixed-post")
"""Loads that ask how much a relay can move; the others set a rate, or move nothing."""
_SHORT: Final = 64
_DISTURBED: Final = 10
"""Percent of all cores from which on what other programs used makes figures doubtful."""
_LIKE: Final = 0.05
"""The share by which two rates differ at least that are not called alike."""


# What stands between the marks.


def _conditions(results: Results, *keys: str) -> str:
    """All that the figures depend on, or some of it."""
    found = {key: text for key, text in results.conditions.items() if not keys or key in keys}
    return "\n".join(f"- {plain(key)}: {plain(text)}" for key, text in found.items())


def _subjects(results: Results) -> str:
    """What was measured, with its settings."""
    lines = [
        f"- **{plain(name)}**: {plain('; '.join(filter(None, rest)))}" for name, *rest in subjects_of(results)
    ]
    return "\n".join(lines)


def _table(results: Results, figure: str, *loads: str) -> str:
    """The table of a figure, of some loads or of all."""
    part = results.part(lambda case: not loads or case.load in loads)
    for table in tables(part):
        if table.figure == figure:
            return f"**{plain(table.title)}**\n\n{markdown_of(table)}"
    return f"({FIGURES[figure].title}: not measured.)"


def _disturbed(results: Results) -> str:
    """A warning, if other programs used much of the machine meanwhile."""
    found = re.match(r"used (\d+)%", results.conditions.get("other programs", ""))
    if not found or int(found[1]) < _DISTURBED:
        return ""
    return (
        f"**Other programs used {found[1]} % of all cores during this run: trust none of its rates and"
        " latencies until it is repeated on a machine that does nothing else.**"
    )


def _goals(results: Results) -> str:
    """What was to be reached, beside what was."""
    for table in tables(results):
        if table.title == "Goals":
            return markdown_of(table)
    return "(Not measured.)"


def _missed(results: Results) -> str:
    """How many goals were reached, and which were not."""
    found = verdicts(results)
    missed = [each.texts() for each in found if not each.reached]
    said = f"Reached: {len(found) - len(missed)} of {len(found)}."
    if missed:
        said += " Missed: " + "; ".join(
            f"{case} ({figure.lower()}: {goal}, measured {value})" for case, figure, goal, value, _ in missed
        )
        said += "."
    return plain(said)


def _beside(results: Results) -> str:
    """In which loads hailer moved more than each of the others, in which as much, in which less."""
    lines = []
    for rival in _RIVALS:
        more, alike, less = _compared(
            results, rival, [case for case in results.cases if case.load in _MOVING]
        )
        texts = []
        if more:
            ratios = [times for _, times in more]
            span = f"{ratio(min(ratios))} to {ratio(max(ratios))}" if len(more) > 1 else ratio(ratios[0])
            texts.append(f"more in {len(more)} of {len(more + alike + less)} loads ({span} times as many)")
        texts += [
            f"{word} in {_listed(found)}" for word, found in (("as many", alike), ("fewer", less)) if found
        ]
        if texts:
            lines.append(f"- Beside **{rival}**: {'; '.join(texts)}.")
    return "\n".join(lines) or "(Not measured.)"


def _compared(results: Results, rival: str, cases: Sequence[Case]) -> tuple[list[tuple[str, float]], ...]:
    """The cases where hailer's rate is more, alike and less, each with the ratio of both rates."""
    more: list[tuple[str, float]] = []
    alike: list[tuple[str, float]] = []
    less: list[tuple[str, float]] = []
    for case in cases:
        own = results.median(case.title, "hailer", "messages_per_s")
        theirs = results.median(case.title, rival, "messages_per_s")
        if own and theirs:
            times = own / theirs
            kind = more if times > 1 + _LIKE else less if times < 1 - _LIKE else alike
            kind.append((case.title, times))
    return more, alike, less


def _listed(found: Sequence[tuple[str, float]]) -> str:
    texts = [f"“{title}” ({ratio(times)} ×)" for title, times in found]
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else "".join(texts)


def _claim(results: Results) -> str:
    """One clause for who only wants to know how it stands: of short messages, beside the others."""
    cases = [case for case in results.cases if case.load in _MOVING and case.values.get("size") == _SHORT]
    rivals = [name for name in _RIVALS[:3] if any(row.subject == name for row in results.rows)]
    ahead = [
        case
        for case in cases
        if all(any(case.title == title for title, _ in _compared(results, name, cases)[0]) for name in rivals)
    ]
    names = {"nats": "nats-server", "redis": "redis", "mosquitto": "mosquitto"}
    others = [names[name] for name in rivals]
    listed = f"{', '.join(others[:-1])} and {others[-1]}" if len(others) > 1 else "".join(others)
    where = "each of" if len(ahead) == len(cases) else f"{len(ahead)} of"
    return (
        f"with messages of {_SHORT} bytes it moved more of them on one core than {listed}"
        f" in {where} {len(cases)} loads"
    )


def _reading(results: Results) -> str:
    """What the measurement itself says of its figures."""
    return "\n\n".join(plain(text) for text in results.reading) or "(Nothing.)"


def _command(results: Results) -> str:
    """What was typed."""
    return f"```sh\n{results.command}\n```"


BLOCKS: Final[dict[str, Callable[..., str]]] = {
    "conditions": _conditions,
    "disturbed": _disturbed,
    "subjects": _subjects,
    "table": _table,
    "goals": _goals,
    "missed": _missed,
    "beside": _beside,
    "claim": _claim,
    "reading": _reading,
    "command": _command,
}


def filled(text: str, results: Callable[[str], Results]) -> str:
    """A page with all that is between its marks made anew.

    Args:
        text: the page.
        results: gives those of a name.

    Raises:
        ValueError: a mark names nothing that is known, or has no end.
    """
    if text.count("<!-- bench:") != text.count("<!-- end -->"):
        raise ValueError("a mark <!-- bench: ... --> has no <!-- end -->: give each its own")

    def fill(found: re.Match[str]) -> str:
        words = found[2].split()
        if len(words) < 2 or words[0] not in RAW or words[1] not in BLOCKS:
            raise ValueError(
                f"nothing is known of {found[2]!r}: name one of {RAW}, then one of {tuple(BLOCKS)}"
            )
        made_text = BLOCKS[words[1]](results(words[0]), *words[2:])
        # What began on the line of its mark stays there, as in the middle of a sentence.
        apart = found[3].startswith("\n")
        return f"{found[1]}\n\n{made_text}\n\n{found[4]}" if apart else f"{found[1]}{made_text}{found[4]}"

    return _MARKED.sub(fill, text)


def _drawn(results: Callable[[str], Results]) -> dict[str, str]:
    """The pictures that the pages show: few, each answers a question at a glance."""
    found = {each.name: each.svg for name in ("relay", "durable") for each in key_pictures(results(name))}
    for each in key_pictures(results("models")):
        found |= {name: each.svg for name, start in _OF_MODELS.items() if each.name.startswith(start)}
    return found


def made() -> dict[Path, str]:
    """Every file that is made from the raw results, with what has to be in it.

    Raises:
        UsageError: raw results are missing, or are none.
        ValueError: a mark in a page is wrong.
    """
    results = cache(lambda name: load(ROOT / "bench" / f"{name}.json"))
    found = {ROOT / name: filled((ROOT / name).read_text(encoding="utf-8"), results) for name in PAGES}
    found |= {ROOT / "bench" / f"{name}.md": as_markdown(results(name)) for name in RAW}
    return found | {PICTURES / f"{name}.svg": svg for name, svg in _drawn(results).items()}


def main() -> int:
    """Write what has changed; returns the exit status."""
    try:
        files = made()
        PICTURES.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
                print(f"wrote {path.relative_to(ROOT)}")
        for path in set(PICTURES.glob("*.svg")) - set(files):
            path.unlink()
            print(f"removed {path.relative_to(ROOT)}: nothing was measured that it could show")
    except (HailerError, ValueError, OSError) as error:
        print(f"bench.pages: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
