"""The pages are true: their commands run, and say what the pages say they do."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from docs.reference import make_command_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RequireProgram

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path for path in (ROOT / "docs").rglob("*.md") if "```console" in path.read_text(encoding="utf-8")
)
WITH_PROGRAMS = sorted(
    path for path in (ROOT / "docs").rglob("*.md") if "```python" in path.read_text(encoding="utf-8")
)
FOREIGN = ("openssl", "socat", "systemd-socket-activate")
OUTPUT = "output.of-this-page"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")
LINKING = sorted(
    [*ROOT.glob("*.md"), *(p for name in ("docs", "examples", "bench") for p in (ROOT / name).rglob("*.md"))]
)


class Relay:
    """``hailer relay`` as a process on a free port."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hailer", "relay", "--listen", "tcp4://127.0.0.1:0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said.startswith("listening on tcp4://127.0.0.1:")
        self.port = said.strip().rpartition(":")[2]

    def stop(self) -> None:
        """End it politely."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def relay() -> Iterator[Relay]:
    """A relay of its own for each page."""
    relay = Relay()
    yield relay
    relay.stop()


def environment(relay: Relay, home: Path) -> dict[str, str]:
    """The command is on the path, the relay is the one of the test, and what is kept is kept there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "HOME": str(home), "HAILER_RELAY": f"tcp://127.0.0.1:{relay.port}", "NO_COLOR": "1"}
    return {**os.environ, **own}


def free_port() -> str:
    """A port that nobody has, for either kind."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            stream.bind(("127.0.0.1", 0))
            with suppress(OSError):
                datagrams.bind(stream.getsockname())
                return str(stream.getsockname()[1])


def on_port(text: str, relay: Relay) -> str:
    """The text for other ports; a client in Python is told where the relay is."""
    text = re.sub(r'RelayClient\("(\w+)"', rf'RelayClient("\1", "tcp://localhost:{relay.port}"', text)
    for port in set(re.findall(r"\b(7[04]\d\d)\b", text)):
        text = re.sub(rf"\b{port}\b", free_port(), text)
    return text.replace("16273", relay.port)


def programs(page: str) -> Iterator[tuple[str, str]]:
    """The Python blocks that the page gives a file name, in its text just before or after."""
    for block in BLOCK.finditer(page):
        if block[1] == "python":
            before, after = page[: block.start()][-120:], page[block.end() :][:120]
            names = re.findall(r"`(\w+\.py)`", before)[-1:] or re.findall(r"`(\w+\.py)`", after)[:1]
            for name in names:
                yield name, block[2]


def commands(page: str) -> list[tuple[str, list[str]]]:
    """The commands of the console blocks, each with the lines that it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.finditer(page):
        if block[1] == "console":
            for line in block[2].splitlines():
                if line.startswith("$ "):
                    found.append((line[2:], []))
                else:
                    found[-1][1].append(line)
    return found


def wait_for(command: str, said: list[str], folder: Path) -> str:
    """What waits until a command that was left behind is ready: a reader of a page is slower."""
    if said:
        return f"for try in $(seq 200); do grep -qxF '{said[-1]}' {OUTPUT} && break; sleep 0.05; done"
    name = re.search(r"--name (\w+)", command)
    script = re.match(r"python3 (\w+\.py)", command)
    if script:
        name = re.search(r'RelayClient\("(\w+)"', (folder / script[1]).read_text(encoding="utf-8"))
    if name is None:
        return ""
    return f"for try in $(seq 100); do hailer who | grep -qx {name[1]} && break; done"


def same(expected: list[str], printed: list[str]) -> bool:
    """Compare line by line; ``...`` stands for anything, and so does a time of day or a version."""
    pattern = "\n".join(expected)
    pattern = re.sub(r"\d\d:\d\d", "TIME", re.sub(r"hailer/[\w.]+", "hailer/V", pattern))
    actual = re.sub(r"\d\d:\d\d", "TIME", re.sub(r"hailer/[\w.]+", "hailer/V", "\n".join(printed)))
    return re.fullmatch(re.escape(pattern).replace(r"\.\.\.", ".*"), actual) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_commands_print_what_the_page_says(
    page: Path, relay: Relay, tmp_path: Path, require_program: RequireProgram
) -> None:
    text = on_port(page.read_text(encoding="utf-8"), relay)
    for program in FOREIGN:
        if re.search(rf"^\$ .*\b{program}\b", text, re.MULTILINE):
            require_program(program)
    for name, program in programs(text):
        (tmp_path / name).write_text(program, encoding="utf-8")
    steps = [(command, said) for command, said in commands(text) if command != "hailer relay"]
    script = []
    for number, (command, said) in enumerate(steps):
        script.append(command)
        if command.endswith("&"):
            script.append(wait_for(command, said, tmp_path))
        script.append(f"echo '--- {number}'")
    shell = subprocess.Popen(
        ["bash", "-c", f"exec > {OUTPUT} 2>&1\n" + "\n".join(script)],
        cwd=tmp_path,
        env=environment(relay, tmp_path),
        start_new_session=True,
    )
    try:
        shell.wait(50)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)  # what a page that is not true has left behind
        shell.wait()
    output = (tmp_path / OUTPUT).read_text(encoding="utf-8")
    printed = [line for line in output.splitlines() if "Terminated" not in line]
    for number, (command, said) in enumerate(steps):
        end = printed.index(f"--- {number}")
        assert same(said, printed[:end]), f"$ {command}\nprints {printed[:end]}\nnot    {said}"
        printed = printed[end + 1 :]


@pytest.mark.parametrize("page", LINKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link, heading in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / link if link else page
        assert target.exists(), link
        if heading:
            assert heading in anchors(target), f"{link}#{heading}"


def anchors(page: Path) -> list[str]:
    """The names by which the headings of a page can be linked to."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]


@pytest.mark.parametrize("page", WITH_PROGRAMS, ids=lambda path: path.stem)
def test_programs_without_a_name_run(page: Path, relay: Relay, tmp_path: Path) -> None:
    text = on_port(page.read_text(encoding="utf-8"), relay)
    for name, program in programs(text):
        (tmp_path / name).write_text(program, encoding="utf-8")
    named = {program for _, program in programs(text)}
    unnamed = [block[2] for block in BLOCK.finditer(text) if block[1] == "python" and block[2] not in named]
    for program in unnamed:
        run = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_index_of_decisions_is_whole() -> None:
    folder = ROOT / "docs/design"
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8")))
    assert named == {path.name for path in folder.glob("*.md")} - {"README.md"}


def test_the_reference_of_the_command_is_made_from_its_help() -> None:
    page = (ROOT / "docs/reference/command.md").read_text(encoding="utf-8")
    assert page == make_command_page.page(), "run python docs/reference/make_command_page.py"
