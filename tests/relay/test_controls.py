"""Which texts are clean: what the library says where it is installed, and what Python alone says."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.relay import controls

LENGTHS = (0, 1, 63, 64, 65, 2046, 2047, 2048, 2049, 5000, 70_000)


@pytest.fixture(params=["library", "python"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(controls, "_first_of", None)
    else:
        assert controls.ACCELERATED, "StringZilla belongs to what the tests need"


def is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("length", LENGTHS)
def test_every_byte_is_judged_wherever_it_stands(length: int) -> None:
    for code in range(256):
        bad = code < 0x20 or code == 0x7F or code >= 0x80  # alone, a byte of 80 or more is no UTF-8
        for place in {0, length // 2, length}:
            text = bytearray(b"a" * (length + 1))
            text[place] = code
            assert controls.is_clean(bytes(text)) is not bad
            assert controls.clean(bytes(text)) is (not bad or code == 10)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("length", LENGTHS)
def test_every_control_of_unicode_is_found_and_its_neighbours_are_not(length: int) -> None:
    for code in (*range(0x300), 0x2028, 0x202E, 0xFFFD, 0x1F600):
        text = ("a" * length + chr(code) + "b").encode()
        assert controls.is_clean(text) is not is_control(chr(code)), code
        assert controls.clean(text) is (not is_control(chr(code)) or code == 10), code


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize(
    "broken", [b"\xc2", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"a\xe2\x82", b"\x80"]
)
def test_what_is_no_utf8_is_not_clean(broken: bytes) -> None:
    for length in LENGTHS:
        assert not controls.is_clean(b"a" * length + broken)
        assert not controls.clean(b"a" * length + broken + b"\n")


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)), st.sampled_from(LENGTHS))
def test_both_ways_say_the_same(data: bytes, length: int) -> None:
    text = b"x" * length + data
    with pytest.MonkeyPatch.context() as patch:
        fast = controls.is_clean(text), controls.clean(text)
        patch.setattr(controls, "_first_of", None)
        assert (controls.is_clean(text), controls.clean(text)) == fast


@pytest.mark.parametrize("fault", ["OSError('broken')", "ImportError('none')", "SystemError('binary')"])
def test_a_library_that_cannot_be_loaded_is_done_without(tmp_path: Path, fault: str) -> None:
    (tmp_path / "stringzilla.py").write_text(f"raise {fault}")
    source = str(Path(controls.__file__).parents[2])
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {source!r}]; from hailer.relay import controls as c;"
        "print(c.ACCELERATED, c.is_clean(b'x' * 3000),"
        " c.is_clean(b'x' * 3000 + b'\\t'), c.clean(b'x\\n' * 3000))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False", "True"]
