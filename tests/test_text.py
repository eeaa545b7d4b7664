from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("Grüße, 你好", "Grüße, 你好"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\r\nlines\u2028more", r"two\r\nlines\u2028more"),
        ("\x9b5n", r"\x9b5n"),
        ("\u202eturned\u2066", r"\u202eturned\u2066"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_could_act_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_nothing_that_controls_is_left(text: str) -> None:
    shown = printable(text)
    assert not [letter for letter in shown if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")]
    assert len(shown.splitlines()) <= 1
    shown.encode()
