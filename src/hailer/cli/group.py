"""The verbs: a table of what there is, imported one by one, and the form of their help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

import click

from hailer._version import __version__
from hailer.cli.exits import DONE, MEANINGS, USAGE
from hailer.cli.notes import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CONTEXT_SETTINGS", "VERBS", "ExampledCommand", "GroupedOption", "Verb", "run_command", "verb"]

VERBS: Final = {
    "relay": "Run a relay, where programs and people meet by name.",
    "chat": "Talk to people and programs on a relay.",
    "send": "Send one message, or each line of standard input.",
    "recv": "Receive messages as lines.",
    "ask": "Ask a question and wait for the answer.",
    "who": "Show who is on the relay, or in a room.",
    "account": "Make, list, renew and remove the accounts of a relay.",
    "serve": "Serve echo or a handler of your own, on any endpoint, under any model.",
    "connect": "Connect to any server: lines in, lines out.",
    "talk": "Send datagrams.",
    "listen": "Show the datagrams that come, or take one connection.",
    "cert": "Make a certificate and its key, for development.",
    "bench": "Measure relays, the models of concurrency, or a server of yours, with plots.",
}
"""Each verb and its line in the help. Its module, ``hailer.cli.VERB``, has it as ``command``."""

_EPILOG: Final = f"""\
Settings come from options, then from HAILER_... variables (HAILER_RELAY for --relay), then from
hailer.toml in the current directory or in ~/.config/hailer; [client] there is for all verbs that
connect, [VERB] for one.

Exit codes: {", ".join(f"{code} {meaning}" for code, meaning in MEANINGS)}.
"""

_COMPLETION: Final = """\
Completion:
  eval "$(_HAILER_COMPLETE=bash_source hailer)"    in ~/.bashrc; also zsh_source, fish_source
"""

_EXAMPLE: Final = """\
Example:
  hailer relay &
  hailer chat ann
"""


class GroupedOption(click.Option):
    """An option that the help shows under a heading.

    Args:
        group: the heading.
    """

    def __init__(self, *args: Any, group: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class _LazySettings(Mapping[str, object]):
    """What hailer.toml says for a verb, read when the first option asks: not for --help."""

    def __init__(self, read: Callable[[], dict[str, object]]) -> None:
        self._read = read
        self._values: dict[str, object] | None = None

    def _loaded(self) -> dict[str, object]:
        if self._values is None:
            self._values = self._read()
        return self._values

    def __getitem__(self, key: str) -> object:
        return self._loaded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())


class ExampledCommand(click.Command):
    """A command with its options under headings and an example at the end of its help.

    Args:
        example: command lines.
    """

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = "".join(f"  {line}\n" for line in example.strip().splitlines())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and not isinstance(param, click.Argument):
                groups.setdefault(getattr(param, "group", ""), []).append(record)
        for name, records in sorted(groups.items(), key=lambda item: bool(item[0])):
            with formatter.section(name or "Options"):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        _verbatim(formatter, f"Example:\n{self.example}")


class Verb(ExampledCommand):
    """A command whose options can be set in hailer.toml."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        from hailer.cli.settings import read_settings  # noqa: PLC0415 (not for `hailer --version`)

        settings = _LazySettings(lambda: read_settings(self))
        return super().make_context(info_name, args, parent, default_map=settings, **extra)

    def get_help(self, ctx: click.Context) -> str:
        ctx.default_map = None  # the help is the same on every machine
        return super().get_help(ctx)


def verb(name: str, *, example: str) -> Callable[[Callable[..., None]], Verb]:
    """Make a function the verb of that name; its docstring is the help.

    Args:
        name: one of `VERBS`.
        example: command lines for the end of the help.
    """
    decorate = click.command(
        name, cls=Verb, example=example, short_help=VERBS[name], context_settings=CONTEXT_SETTINGS
    )
    return cast("Callable[[Callable[..., None]], Verb]", decorate)


class _Verbs(click.Group):
    """The command itself: a group that imports a verb's module when that verb is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click calls it so)
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        return cast("click.Command", import_module(f"hailer.cli.{cmd_name}").command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches  # noqa: PLC0415 (only for who mistypes)

            close = get_close_matches(args[0], VERBS, 1)
            hint = f", did you mean {close[0]}" if close else ""
            raise click.UsageError(f"there is no verb {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for paragraph in _EPILOG.split("\n\n"):
            formatter.write_paragraph()
            formatter.write_text(paragraph)
        _verbatim(formatter, _COMPLETION)
        _verbatim(formatter, _EXAMPLE)


def _verbatim(formatter: click.HelpFormatter, text: str) -> None:
    formatter.write_paragraph()
    formatter.write(text)


CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"]}


@click.group(
    "hailer",
    cls=_Verbs,
    context_settings=CONTEXT_SETTINGS,
    subcommand_metavar="VERB ...",
    invoke_without_command=True,
)
@click.version_option(__version__, "-V", "--version", message="hailer %(version)s")
@click.pass_context
def _hailer(ctx: click.Context) -> None:
    """Programs that talk over sockets: a relay, and commands to talk to it and to any server."""
    if ctx.invoked_subcommand is None:
        warn(ctx.get_help(), prefix="")
        ctx.exit(USAGE)


def run_command(args: Sequence[str]) -> int:
    """Run one command line.

    Args:
        args: the words after ``hailer``.

    Returns:
        The exit code; what went wrong has been told on standard error.
    """
    try:
        code = _hailer.main(args, prog_name="hailer", complete_var="_HAILER_COMPLETE", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        from hailer.cli.errors import tell  # noqa: PLC0415 (only when something went wrong)

        return tell(error)
    return code if isinstance(code, int) else DONE
