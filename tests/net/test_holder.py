from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from hailer.net.holder import holder_of_port

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(port: int, state: str, inode: int) -> str:
    address = f"0100007F:{port:04X} 00000000:0000"
    return f"   0: {address} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(HEAD + line(80, "01", 5) + line(80, "0A", 6) + line(81, "0A", 7))
    (tmp_path / "net" / "udp6").write_text(HEAD + line(80, "07", 8))
    for pid, inode, comm in (
        (70, 5, "connected"),
        (71, 6, "we\x1b[31mb"),
        (72, 7, "other"),
        (73, 8, "named"),
    ):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "fd" / "3").symlink_to(f"socket:[{inode}]")
        (tmp_path / str(pid) / "comm").write_text(comm + "\n")
    return tmp_path


def test_the_one_that_listens_is_named_and_its_name_is_made_harmless(proc: Path) -> None:
    assert holder_of_port(80, proc) == r"we\x1b[31mb (process 71)"


def test_udp_ports_are_others(proc: Path) -> None:
    assert holder_of_port(80, proc, udp=True) == "named (process 73)"
    assert holder_of_port(81, proc, udp=True) is None


def test_nothing_is_said_where_nothing_is_seen(proc: Path, tmp_path: Path) -> None:
    assert holder_of_port(82, proc) is None
    assert holder_of_port(80, tmp_path / "absent") is None
    (proc / "71" / "fd" / "3").unlink()
    assert holder_of_port(80, proc) is None


def test_a_table_in_another_form_is_no_error(proc: Path) -> None:
    (proc / "net" / "tcp").write_text(HEAD + "garbage\n")
    assert holder_of_port(80, proc) is None
    (proc / "net" / "tcp").write_text(HEAD + "a b c 0A e f g h i j\n")
    assert holder_of_port(80, proc) is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_this_process(server: object) -> None:
    port = server.getsockname()[1]  # type: ignore[attr-defined]
    assert holder_of_port(port) == f"this program itself (process {os.getpid()})"
