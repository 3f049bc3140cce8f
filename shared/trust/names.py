"""Names that go into certificates, files and addresses, and what they may look like."""

from __future__ import annotations

import ipaddress
import re

from shared.errors import BadInput
from shared.limits import MAX_NAME

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_HOST_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ALLIANCE_ID = re.compile(r"[0-9a-f]{32}")


def check_member_id(name: str) -> str:
    """Return ``name`` if it can name a member: a lower-case slug of at most 40 characters.

    Raises:
        BadInput: it cannot.
    """
    if not _SLUG.fullmatch(name):
        raise BadInput(
            f"{name[:MAX_NAME]!r} cannot name a member",
            hint="use 1 to 40 lower-case letters, digits and hyphens, such as brand-one",
        )
    return name


def check_alliance_name(name: str) -> str:
    """Return ``name`` if it is a printable, trimmed, non-empty text of at most 64 characters.

    64 is the upper bound of a common name in a certificate (RFC 5280, appendix A.1).

    Raises:
        BadInput: it is not.
    """
    if not name or len(name) > 64 or name != name.strip() or not name.isprintable():
        raise BadInput(
            "the alliance's name must have 1 to 64 printable characters and no outer spaces"
        )
    return name


def check_purpose(text: str) -> str:
    """Return ``text`` if it can say what a run is for: printable, 1 to ``MAX_NAME`` characters.

    Members read it before they agree, and allow purposes by their exact text.

    Raises:
        BadInput: it cannot.
    """
    if not text or len(text) > MAX_NAME or text != text.strip() or not text.isprintable():
        raise BadInput(
            f"a purpose must have 1 to {MAX_NAME} printable characters and no outer spaces",
            hint="such as counterfeit-detection",
        )
    return text


def check_alliance_id(text: str) -> str:
    """Return ``text`` if it is 16 bytes in lower-case hex.

    Raises:
        BadInput: it is not.
    """
    if not _ALLIANCE_ID.fullmatch(text):
        raise BadInput("an alliance id is 32 lower-case hex digits")
    return text


def check_host(host: str) -> str:
    """Return ``host`` if it is an IP address or a DNS name.

    Raises:
        BadInput: it is neither.
    """
    if as_ip(host) is None:
        labels = host.split(".")
        if len(host) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
            raise BadInput(
                f"{host[:MAX_NAME]!r} is neither a host name nor an IP address",
                hint="give the name or address by which members will reach the coordinator",
            )
    return host


def as_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return ``host`` as an IP address, or nothing if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def check_port(port: int) -> int:
    """Return ``port`` if it and the one above it are TCP ports.

    Raises:
        BadInput: it is not between 1 and 65534.
    """
    if not 1 <= port <= 65534:
        raise BadInput("a port must lie between 1 and 65534", hint="enrolment uses the next one")
    return port


def authority_of(host: str, port: int) -> str:
    """Return ``host:port`` as gRPC wants it, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_authority(text: str) -> tuple[str, int]:
    """Return host and port of ``host:port``, ``[v6]:port`` or either after ``https://``.

    Raises:
        BadInput: it has another form.
    """
    rest = text.removeprefix("https://").rstrip("/")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        raise BadInput(f"{text[:MAX_NAME]!r} is not HOST:PORT", hint="for example 127.0.0.1:7443")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        return check_host(host), check_port(int(port))
    except BadInput as error:
        # Who types an address did not found the alliance, so the founder's hint is not for them.
        raise BadInput(
            f"{text[:MAX_NAME]!r} is not HOST:PORT", hint="for example 127.0.0.1:7443"
        ) from error
