"""Results as one page of HTML that holds everything it needs: no script, nothing from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hailer.tools.bench.drawing import escape
from hailer.tools.bench.pictures import key_pictures, pictures
from hailer.tools.bench.tables import subjects_of, tables, title_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hailer.tools.bench.compare import Comparison
    from hailer.tools.bench.pictures import Picture
    from hailer.tools.bench.results import Results
    from hailer.tools.bench.tables import Table

__all__ = ["page"]

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; color: #1a1a1a; background: #ffffff;
  max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
pre { background: #f2f2f2; padding: .75rem; overflow-x: auto; white-space: pre-wrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; }
.plots { columns: 2 22rem; column-gap: 1rem; margin: 1rem 0; }
.plots svg { width: 100%; height: auto; max-width: 40rem; margin-bottom: .8rem; break-inside: avoid;
  border: 1px solid #dddddd; border-radius: 4px; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #dddddd; white-space: nowrap; }
th[scope=row] { font-weight: 400; } th:first-child { text-align: left; white-space: normal; min-width: 9rem; }
.best { font-weight: 700; } .note { color: #595959; font-size: .9rem; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media (prefers-color-scheme: dark) {
  body { color: #ececec; background: #16181c; } pre { background: #24272d; }
  th, td, .plots svg { border-color: #3a3d44; } .note { color: #a8a8a8; }
}
"""

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"

_READING: Final = (
    "Trust the ratios within this run more than the figures: another machine, or the same one while other"
    " programs use it, gives others. Each figure is the median of the rounds; best figures of a row are bold."
)


def page(results: Results, comparison: Comparison | None = None) -> str:
    """The whole page.

    Args:
        results: what was measured.
        comparison: with older results.
    """
    title = title_of(results)
    key = key_pictures(results)
    drawn = [each for each in pictures(results) if each.svg not in {one.svg for one in key}]
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)} — hailer bench</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        # The answer, what shows it, and then the rest.
        *(f"<p><strong>{escape(text)}</strong></p>" for text in results.reading[:1]),
        _plots(key),
        *(f"<p>{escape(text)}</p>" for text in results.reading[1:]),
        f'<p class="note">{_READING}</p>',
        "<h2>Conditions</h2>",
        _definitions(results.conditions.items()),
        "<h2>What was measured</h2>",
        _definitions((name, "; ".join(filter(None, rest))) for name, *rest in subjects_of(results)),
        f"<p>To repeat it:</p><pre><code>{escape(results.command)}</code></pre>",
    ]
    if results.notes:
        parts.append("<h2>What to know</h2>" + _list(results.notes))
    if comparison is not None:
        parts.append(
            "<h2>Beside the older results</h2>" + _list([*comparison.warnings, *comparison.unchanged()])
        )
        parts += [f"<h3>{escape(each.title)}</h3>{_table(each)}" for each in comparison.tables()]
    shown = tables(results)
    for table in shown:
        own = [each for each in drawn if each.figure == table.figure] if table.figure else []
        # Where a few plots have answered already, those of every single figure wait until they are wanted.
        shown_plots = _folded(own) if key else _plots(own)
        parts.append(f"<h2>{escape(table.title)}</h2>{shown_plots}{_table(table)}")
    left = [each for each in drawn if each.figure not in {table.figure for table in shown}]
    if left:
        heading = "Latency" if any(table.figure for table in shown) else "Plots"
        parts.append(f"<h2>{heading}</h2>{_folded(left) if key else _plots(left)}")
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in pairs)
    return f"<dl>{rows}</dl>" if rows else ""


def _list(texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def _plots(drawn: Sequence[Picture]) -> str:
    return f'<div class="plots">{"".join(each.svg for each in drawn)}</div>' if drawn else ""


def _folded(drawn: Sequence[Picture]) -> str:
    if not drawn:
        return ""
    count = f"{len(drawn)} plot{'s' * (len(drawn) != 1)}"
    return f"<details><summary>{count}</summary>{_plots(drawn)}</details>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in table.head)
    body = []
    for place, row in enumerate(table.rows):
        cells = [f'<th scope="row">{escape(row[0])}</th>']
        for at, text in enumerate(row[1:], 1):
            kind = ' class="best"' if (place, at) in table.best else ""
            cells.append(f"<td{kind}>{escape(text)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    # A table that scrolls must be reachable by the keyboard.
    return (
        f'<div class="table" role="region" aria-label="{escape(table.title)}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{notes}"
    )
