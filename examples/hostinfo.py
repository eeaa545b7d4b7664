"""What a name, an address or a service stands for.

    python examples/hostinfo.py NAME                 its addresses, IPv6 and IPv4, one a line
    python examples/hostinfo.py -4 NAME              IPv4 only
    python examples/hostinfo.py --reverse ADDRESS    its names, one a line
    python examples/hostinfo.py 0x8002C2F2           dotted decimal: 128.2.194.242
    python examples/hostinfo.py --hex 128.2.194.242  and back: 0x8002C2F2
    python examples/hostinfo.py --service http       its port, by this machine's database

The addresses come in the order in which `hailer.connect` would try them.
"""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys

import hailer
from hailer.net.resolve import resolve


def addresses(name: str, *, only_ipv4: bool) -> list[str]:
    """The addresses of a name, or of a service's port on this machine."""
    endpoint = hailer.Endpoint("tcp4" if only_ipv4 else "tcp", name, 0)
    return list(dict.fromkeys(str(address.sockaddr[0]) for address in resolve(endpoint, timeout=10)))


def names(address: str) -> list[str]:
    """The names of an address: the official one, then the others."""
    try:
        official, others, _ = socket.gethostbyaddr(address)
    except OSError as error:
        raise hailer.ResolveError(f"{address} has no name ({error.strerror}): correct the address") from error
    return list(dict.fromkeys([official, *others]))


def port(service: str) -> int:
    """The port of a service, such as http."""
    (address, *_) = resolve(hailer.Endpoint("tcp", "127.0.0.1", service), timeout=10)
    return int(address.sockaddr[1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Tell what a name, an address or a service stands for.")
    parser.add_argument("what")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-4", dest="only_ipv4", action="store_true", help="IPv4 addresses only")
    group.add_argument("--reverse", action="store_true", help="the names of an address")
    group.add_argument("--hex", action="store_true", help="an IPv4 address as one number")
    group.add_argument("--service", action="store_true", help="the port of a service")
    args = parser.parse_args()
    if args.reverse:
        print(*names(args.what), sep="\n")
    elif args.service:
        print(port(args.what))
    elif args.hex or args.what.lower().startswith("0x"):
        try:
            # The most significant byte comes first: network byte order.
            number = ipaddress.IPv4Address(args.what if args.hex else int(args.what, 16))
        except ValueError:
            raise hailer.UsageError(
                f"{args.what!r} is no IPv4 address: write 128.2.194.242 or 0x8002C2F2"
            ) from None
        print(f"0x{int(number):08X}" if args.hex else number)
    else:
        print(*addresses(args.what, only_ipv4=args.only_ipv4), sep="\n")


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"hostinfo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
