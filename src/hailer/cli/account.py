"""``hailer account``: who may log in to a relay, and with which token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from hailer.cli.group import verb
from hailer.cli.options import json_option, option, verbosity_options
from hailer.errors import HailerError, StoreError, UsageError

if TYPE_CHECKING:
    from hailer.cli.notes import Notes
    from hailer.relay.accounts import AccountFile, Entry

__all__ = ["command"]

_RELOAD: Final = "a relay that runs knows it once it gets SIGHUP (kill -HUP, systemctl reload)"


@verb(
    "account",
    example="""
hailer account add ann
hailer account add bot --token-file bot.token
hailer account list
hailer account rotate ann
""",
)
@click.argument(
    "action", metavar="add|list|rotate|remove", type=click.Choice(["add", "list", "rotate", "remove"])
)
@click.argument("name", metavar="[NAME]", required=False)
@option(
    "--store",
    metavar="memory|PATH",
    help="The store of the relay: accounts are beside it, in PATH.accounts, or with memory beside the"
    " default one.  [default: the relay's]",
)
# No variable sets it: HAILER_TOKEN_FILE names the file that is read to log in, which is not to be replaced.
@click.option(
    "--token-file",
    metavar="FILE",
    help="Write the token to this file, for its owner alone, instead of showing it.",
)
@json_option
@verbosity_options
def command(
    action: str,
    name: str | None,
    store: str | None,
    token_file: str | None,
    as_json: bool,
    notes: Notes,
) -> None:
    """Make, list, renew and remove the accounts of a relay.

    add makes an account and prints its token, which is shown this once: who has it can log in under that
    name. rotate gives an account a new token. Only a digest of each token is kept. A relay that runs reads
    the accounts again at SIGHUP; then a removed account's connection ends, and an old token is none.
    """
    from hailer.cli.running import run  # noqa: PLC0415 (these are not for --help)
    from hailer.relay.accounts import AccountFile, accounts_beside  # noqa: PLC0415

    if action == "list":
        if name is not None or token_file is not None:
            raise UsageError("list takes no name and no --token-file: it shows all accounts")
    elif name is None:
        raise UsageError(f"whose account? Write hailer account {action} NAME")
    if action == "remove" and token_file is not None:
        raise UsageError("remove makes no token: leave --token-file out")
    file = AccountFile(accounts_beside(store))
    if name is None:
        run(_list(file, notes, as_json=as_json))
    elif action == "remove":
        file.remove(name)
        notes.note(f"{name} has no account any more; {_RELOAD}, and lets go of {name} then")
    else:
        make = file.add if action == "add" else file.rotate
        if token_file is None:
            run(_show(file, action, name, make(name), notes, as_json=as_json))
        else:
            from hailer.cli.token_files import write_token  # noqa: PLC0415

            write_token(token_file, lambda: make(name), replace=action == "rotate")
            notes.note(f"the token of {name} is in {token_file}: log in with --name {name}"
                       f" --token-file {token_file}")  # fmt: skip
            notes.note(_RELOAD)


async def _show(
    file: AccountFile, action: str, name: str, token: str, notes: Notes, *, as_json: bool
) -> None:
    from hailer.cli.output import Output  # noqa: PLC0415

    try:
        output = Output()
        if as_json:
            await output.object(name=name, token=token)
        else:
            await output.line(token)
    except HailerError as error:
        raise StoreError(
            f"nobody has seen the new token of {name} ({error}): get another by hailer account rotate {name}"
        ) from error
    made = "an account" if action == "add" else "a new token"
    notes.note(f"{name} has {made}, in {file.path}; the token above is shown this once")
    notes.note(
        f"keep it in a file that is yours alone (chmod 600) and log in with --name {name} --token-file FILE"
    )
    notes.note(_RELOAD)


async def _list(file: AccountFile, notes: Notes, *, as_json: bool) -> None:
    from hailer.cli.output import Output  # noqa: PLC0415

    entries = file.read() if file.exists() else []
    if not entries:
        notes.note(f"there are no accounts in {file.path}: make one with hailer account add NAME")
    output = Output()
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        made, rotated = entry.account.made.decode(), entry.rotated.decode()
        if as_json:
            await output.object(name=entry.name, made=made, rotated=rotated or None)
        else:
            await output.line(f"{entry.name:<{width}}  {_to_the_second(made)}{_renewed(entry)}")


def _renewed(entry: Entry) -> str:
    return f"  token of {_to_the_second(entry.rotated.decode())}" if entry.rotated else ""


def _to_the_second(time: str) -> str:
    return time[:19] + "Z"
