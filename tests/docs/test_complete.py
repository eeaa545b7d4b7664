"""The page about the log has every event of the relay and every counter; that about limits, every limit."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

from hailer.relay.core.counters import Counters
from hailer.relay.core.limits import Limits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "log.md").read_text(encoding="utf-8")


def words_logged(source: str) -> set[str]:
    """The words that calls of `log_event` and `notice` have for an event, as far as they stand there."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = {"log_event": 2, "notice": 0, "tell_counters": 0}.get(name)
            if place is not None and len(node.args) > place:
                for each in ast.walk(node.args[place]):
                    if isinstance(each, ast.Constant) and isinstance(each.value, str):
                        found.add(each.value)
    return found


def test_every_event_is_on_the_page() -> None:
    paths = (ROOT / "src" / "hailer" / "relay").rglob("*.py")
    events = set().union(*(words_logged(path.read_text(encoding="utf-8")) for path in paths))
    assert {"login", "replaced", "denied", "bye", "cut", "stopped", "counters", "listening"} <= events
    assert sorted(event for event in events if f"`{event}`" not in PAGE) == []


def test_every_counter_is_on_the_page() -> None:
    names = {item.name for item in fields(Counters)} - {"met", "met_by"}
    assert sorted(name for name in names if f"`{name}`" not in PAGE) == []


def test_every_limit_is_argued() -> None:
    page = (ROOT / "docs" / "design" / "limits.md").read_text(encoding="utf-8")
    options = ["--" + limit.name.replace("_", "-") for limit in fields(Limits)]
    assert [option for option in options if f"(`{option}`) |" not in page] == []
