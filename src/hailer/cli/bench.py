"""``hailer bench``: measurements on the reader's own machine, each kind a subcommand with the same options.

A subcommand is ``command`` in ``hailer.cli.bench_NAME``, imported when it is used:

    @bench("models", known=MODELS, example="hailer bench models --short")
    @click.option(...)                      # what only it has
    def command(wanted: Wanted, notes: Notes, ...) -> None:
        results = Results("models", wanted.command)
        ...                                 # measures; KeyboardInterrupt ends it early, with a note
        publish(results, wanted, notes)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import click

from hailer.cli.exits import FAILED, INTERRUPTED
from hailer.cli.group import CONTEXT_SETTINGS, VERBS, ExampledCommand, GroupedOption
from hailer.cli.options import verbosity_options
from hailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.cli.notes import Notes
    from hailer.tools.bench.results import Results

__all__ = ["BENCHES", "Wanted", "announce", "bench", "chosen", "command", "publish"]

BENCHES: Final = {
    "relay": "Relays side by side: this one, nats-server, redis, mosquitto and a floor in C.",
    "models": "One service under every model and transport: threads or processes?",
    "endpoint": "A server of yours, whatever it is.",
    "show": "Nothing: show again what --json wrote.",
}
"""Each subcommand and its line in the help."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the options that all subcommands share say.

    Attributes:
        length: how thorough.
        seconds: of one measurement, None for what the length says.
        rounds: how often each is measured, None for what the length says.
        only: the subjects to measure, in the order in which they are known; None for all.
        json, html, markdown: files to write, ``-`` for standard output.
        svg: a directory for plots.
        compare: a file of older results to compare with.
        fail_below: fail if something is worse than this share of what it was, beyond the noise.
        plots: whether to draw in the terminal.
        command: the command line as it was typed.
    """

    length: Literal["short", "normal", "long"]
    seconds: float | None
    rounds: int | None
    only: tuple[str, ...] | None
    json: str | None
    html: str | None
    svg: str | None
    markdown: str | None
    compare: str | None
    fail_below: float | None
    plots: bool
    command: str

    def pick(self, short: float, normal: float, long: float) -> float:
        """One of three values, by the length."""
        return {"short": short, "normal": normal, "long": long}[self.length]


class _Benches(click.Group):
    """A group that imports a subcommand's module when that one is wanted."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            raise UsageError(
                f"say what to measure: one of {', '.join(BENCHES)}, such as hailer bench models --short"
                " (see hailer bench --help)"
            )
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click calls it so)
        return list(BENCHES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in BENCHES:
            return None
        return cast("click.Command", import_module(f"hailer.cli.bench_{cmd_name}").command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("What to measure"):
            formatter.write_dl(list(BENCHES.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        formatter.write_paragraph()
        formatter.write("Example:\n  hailer bench models --short --html models.html\n")


@click.group(
    "bench",
    cls=_Benches,
    context_settings=CONTEXT_SETTINGS,
    short_help=VERBS["bench"],
    subcommand_metavar="|".join(BENCHES) + " ...",
)
def command() -> None:
    """Measure on this machine: speed, latency, processor time, memory.

    Each takes --short or --long and says how long it will take. Results are tables on standard output and, as
    wanted, plots, a page of HTML, Markdown or JSON; --compare shows what became better since older ones.
    """


def bench(
    name: str, *, known: Sequence[str] = (), example: str, measures: bool = True
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a subcommand with the common options; its docstring is the help.

    The function gets ``wanted``, a `Wanted`, and ``notes``, a `Notes`, beside what its own options give.

    Args:
        name: one of `BENCHES`.
        known: the subjects that --only may name; empty for no such option.
        example: command lines for the end of the help.
        measures: whether it has the options of a measurement; without, it is to call
            `hailer.cli.publishing.check` itself.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @wraps(function)
        def wrapped(
            *args: Any,
            short: bool = False,
            long: bool = False,
            seconds: float | None = None,
            rounds: int | None = None,
            only: str | None = None,
            **kwargs: Any,
        ) -> None:
            if short and long:
                raise UsageError("--short and --long exclude each other: leave one out")
            wanted = Wanted(
                length="short" if short else "long" if long else "normal",
                seconds=seconds,
                rounds=rounds,
                only=None if only is None else chosen(only, known, "--only"),
                command=_command_line(),
                **{key: kwargs.pop(key) for key in _SHOWING},
            )
            if measures:
                from hailer.cli.publishing import check  # noqa: PLC0415 (not for --help)

                check(wanted, name)
            function(*args, wanted=wanted, **kwargs)

        decorated: Callable[..., None] = verbosity_options(wrapped)
        for option in reversed([*(_measuring(known) if measures else ()), *_showing()]):
            decorated = option(decorated)
        make = click.command(
            name,
            cls=ExampledCommand,
            example=example,
            short_help=BENCHES[name],
            context_settings=CONTEXT_SETTINGS,
        )
        return cast("click.Command", make(decorated))

    return decorate


def chosen(text: str, known: Sequence[str], option: str) -> tuple[str, ...]:
    """Words with commas between them, each one of those that are known.

    Raises:
        UsageError: there is none, or one that is not known.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise UsageError(f"{option}: {word} is none of {', '.join(known)}: name some of them")
    if not words:
        raise UsageError(f"{option} names nothing: give some of {', '.join(known)}")
    return tuple(word for word in known if word in words)


_SHOWING: Final = ("json", "html", "svg", "markdown", "compare", "fail_below", "plots")


def _option(*names: str, **attributes: Any) -> Callable[..., Any]:
    return click.option(*names, cls=GroupedOption, **attributes)


def _measuring(known: Sequence[str]) -> list[Callable[..., Any]]:
    only = _option("--only", metavar="A,B", help=f"Measure only these of {', '.join(known)}.")
    return [
        _option("--short", is_flag=True, help="A quick look: fewer loads, shorter, fewer rounds."),
        _option("--long", is_flag=True, help="All loads, longer, more rounds."),
        _option("--seconds", type=click.FloatRange(0.05, 600), metavar="S",
                help="Length of one measurement."),
        _option("--rounds", type=click.IntRange(1, 100), metavar="N",
                help="Measure each so often; the median counts."),
        *([only] if known else []),
    ]  # fmt: skip


def _showing() -> list[Callable[..., Any]]:
    return [
        _option("--json", metavar="FILE", group="Results", help="Write all figures there as JSON; - here."),
        _option("--html", metavar="FILE", group="Results", help="Write a page with tables and plots there."),
        _option("--svg", metavar="DIR", group="Results", help="Write each plot to this directory."),
        _option("--markdown", metavar="FILE", group="Results", help="Write the tables there; - here."),
        _option("--compare", metavar="OLD.json", group="Results", help="Show what changed since then."),
        _option("--fail-below", type=click.FloatRange(0, min_open=True), metavar="RATIO", group="Results",
                help="Fail if a figure is worse than this share of the older one, beyond the noise."),
        _option("--plots/--no-plots", default=True, group="Results", help="Draw in the terminal, or not."),
    ]  # fmt: skip


def _command_line() -> str:
    import shlex  # noqa: PLC0415 (not for --help)

    return shlex.join(["hailer", *sys.argv[1:]])


def announce(seconds: float, measurements: int, wanted: Wanted, notes: Notes) -> None:
    """Say before it begins how long it will take.

    Args:
        seconds: about so long in all.
        measurements: so many in all.
        wanted: the length that was asked for.
        notes: where to say it.
    """
    from hailer.tools.bench.progress import duration  # noqa: PLC0415 (these are not for --help)

    other = {"short": "", "normal": "; --short takes less", "long": "; without --long it takes less"}
    notes.note(
        f"about {duration(seconds)} for {measurements} measurements{other[wanted.length]};"
        " Ctrl-C ends it and shows what there is by then"
    )


def publish(
    results: Results, wanted: Wanted, notes: Notes, *, interrupted: bool = False, failed: bool = False
) -> None:
    """Show the results, write the files that are wanted, and end with the exit code that this has.

    Args:
        results: what was measured.
        wanted: what to do with it.
        notes: where to tell of files that were written.
        interrupted: whether Ctrl-C ended it early.
        failed: whether something that was to be measured could not be.

    Raises:
        StoreError: a file cannot be written; the tables have been shown.
        click.exceptions.Exit: the exit code is not 0: interrupted, failed, or --fail-below.
    """
    from hailer.cli import publishing  # noqa: PLC0415

    good = publishing.publish(results, wanted, notes)
    if interrupted:
        raise click.exceptions.Exit(INTERRUPTED)
    if failed or not good:
        raise click.exceptions.Exit(FAILED)
