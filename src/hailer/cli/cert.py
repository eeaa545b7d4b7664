"""``hailer cert``: certificates for development."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hailer.cli.group import verb
from hailer.cli.options import json_option, option, verbosity_options

if TYPE_CHECKING:
    from hailer.cli.notes import Notes
    from hailer.net.development import Made

__all__ = ["command"]


@verb(
    "cert",
    example="""
hailer cert localhost 127.0.0.1 ::1
hailer cert '*.example.test' --days 30
hailer cert ann --client
""",
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@option(
    "--dir",
    "folder",
    type=click.Path(),
    default="certs",
    show_default=True,
    metavar="DIR",
    help="Where the authority is and the files go; made if it is not there, and kept out of git then.",
)
@option(
    "--days",
    type=click.IntRange(1, 365),
    default=90,
    show_default=True,
    metavar="N",
    help="How long it is valid, at most as long as the authority, which is made for a year.",
)
@click.option("--client", is_flag=True, help="For a client that has to show one, NAME being who it is.")
@click.option("--force", is_flag=True, help="Replace the certificate and key of that name.")
@json_option
@verbosity_options
def command(
    names: tuple[str, ...],
    folder: str,
    days: int,
    client: bool,
    force: bool,
    as_json: bool,
    notes: Notes,
) -> None:
    """Make a certificate and its key for host names and IP addresses, for development.

    The first time an authority is made beside it, which signs all that are made in DIR. Nothing trusts
    that authority until it is named, as with --ca; who has its key, ca.key, can pretend to be any server
    to those who trust it, so keep it on this machine, and use certificates of a public authority or of
    your organisation where others depend on them.
    """  # fmt: skip
    from hailer.cli.output import Output  # noqa: PLC0415 (these are not for --help)
    from hailer.cli.running import run  # noqa: PLC0415
    from hailer.net.development import make_certificate  # noqa: PLC0415

    made = make_certificate(names, folder, days=days, client=client, force=force)

    async def work() -> None:
        output = Output()
        paths = {"ca": str(made.authority), "cert": str(made.certificate), "key": str(made.key)}
        if as_json:
            await output.object(
                **paths,
                names=names,
                client=client,
                expires=made.expires.isoformat(),
                new_authority=made.new_authority,
            )
        else:
            for what, path in paths.items():
                await output.line(f"{what:<5}{path}")
        if made.new_authority:
            notes.note(f"{made.authority} is a new authority, and nothing trusts it but what is told to")
        for line in _next_steps(made, names[0], client=client):
            notes.note(line)

    run(work())


def _next_steps(made: Made, name: str, *, client: bool) -> list[str]:
    """How to use it: two command lines."""
    from shlex import quote  # noqa: PLC0415

    authority, certificate, key = (quote(str(path)) for path in (made.authority, made.certificate, made.key))
    until = f"valid until {made.expires:%Y-%m-%d}"
    if client:
        return [
            f"{until}; serve those who show one: hailer serve ... --client-ca {authority}",
            f"and show it: hailer connect ... --cert {certificate} --key {key}",
        ]
    host = f"[{name}]" if ":" in name else name.replace("*", "www")
    endpoint = f"tls://{host}:7000"
    return [
        f"{until}; serve with it: hailer serve echo {endpoint} --cert {certificate} --key {key}",
        f"and connect: hailer connect --ca {authority} {endpoint}",
    ]
