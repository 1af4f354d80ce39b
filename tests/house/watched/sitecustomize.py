"""Started by Python before anything else in every process whose path has this folder: it writes down who is called.

Each address that a process connects or sends to, or asks the name of, is a line in the file of ``WATCHED``, unless it
is this machine itself or a socket of Unix. What is written down is refused, too.
"""

import ipaddress
import os
import sys

EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")


def _is_near(host: object) -> bool:
    if host in (None, "", b"", "localhost", "localhost.localdomain"):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _watch(event: str, arguments: tuple) -> None:
    if event not in EVENTS:
        return
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        address = arguments[1]
        if not isinstance(address, tuple):  # of Unix, or none as it is connected already
            return
        host = address[0]
    if not _is_near(host):
        with open(os.environ["WATCHED"], "a", encoding="utf-8") as file:
            file.write(f"{event} {host!r} by {sys.argv[:3]}\n")
        raise OSError(101, "Network is unreachable")


if "WATCHED" in os.environ:
    sys.addaudithook(_watch)
