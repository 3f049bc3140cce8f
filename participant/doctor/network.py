"""The way to the coordinator, stage by stage: name, port, TLS, the service, and its clock.

Each stage rests on the one before, so the first that fails is the cause, and the rest is not tried.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from participant.node.config import NodeConfig
from participant.node.membership_client import Admission, membership
from participant.node.probe import explained, tls_context
from shared.clock import Clock
from shared.doctor.report import Check, Status, attempt, fail, ok, skipped, warn
from shared.errors import TouchstoneError
from shared.fleet.wire import PROTOCOL
from shared.trust.authority import CLOCK_SLACK
from shared.trust.names import as_ip

TIMEOUT_S = 5.0

WARN_SKEW = timedelta(seconds=30)
"""Far above what a synchronised clock shows, far below what breaks anything."""

PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")
"""Variables, in small or capital letters, that other programs and gRPC by itself go by."""

STAGES = ("dns", "tcp", "tls", "grpc", "clock")

# OpenSSL's X509_V_ERR_* (openssl-verification-options(1)).
_NOT_YET, _EXPIRED, _NAME, _ADDRESS = 9, 10, 62, 64


def check_network(state_dir: Path, clock: Clock) -> Iterator[Check]:
    """Yield one finding a stage."""
    stages: dict[str, Callable[[], Check | Iterator[Check]]] = {
        "dns": lambda: _dns(state_dir),
        "tcp": lambda: _tcp(state_dir),
        "tls": lambda: _tls(state_dir),
        "grpc": lambda: _service(state_dir, clock),
    }
    broken = ""
    for name, stage in stages.items():
        found = [skipped(name, f"not tried: {broken} failed")] if broken else attempt(name, stage)
        found = [_mind_proxy(check) for check in found]
        broken = broken or next((one.name for one in found if one.status is Status.FAIL), "")
        yield from found
    if broken in stages:
        yield skipped("clock", f"not compared: {broken} failed")


def check_proxy() -> Check:
    """Say that a proxy is not used where the environment names one; its address stays out."""
    name = _proxy_variable()
    if not name:
        return ok("proxy", "the environment names no proxy")
    text = f"{name} is set, and not used: the node connects to the coordinator directly"
    return Check("proxy", Status.OK, "proxy", text)


def _proxy_variable() -> str:
    spellings = (spelt for name in PROXIES for spelt in (name, name.upper()))
    return next((name for name in spellings if os.environ.get(name)), "")


def _mind_proxy(check: Check) -> Check:
    """Add the likely cause to a way that is barred on a machine that goes out by a proxy."""
    name = _proxy_variable()
    if check.status is not Status.FAIL or check.name not in ("dns", "tcp") or not name:
        return check
    told = f"{name} is set, but a node cannot go by a proxy: it needs this one port directly"
    return replace(check, hint=f"{check.hint}; {told}")


def network_skipped() -> Iterator[Check]:
    """Yield the same names when nobody wants the network to be touched."""
    return (skipped(name, "not tried: --offline") for name in STAGES)


def _dns(state_dir: Path) -> Check:
    host = NodeConfig.load(state_dir).coordinator.host
    if as_ip(host) is not None:
        return ok("dns", f"{host} is an address, there is nothing to look up")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return fail(
            "dns",
            "dns_unknown",
            f"the name {host} cannot be looked up: {error.strerror}",
            "check the name in node.toml, and this machine's name server",
        )
    return ok("dns", f"{host} is {', '.join(sorted({str(one[4][0]) for one in found}))}")


def _connect(state_dir: Path) -> socket.socket:
    at = NodeConfig.load(state_dir).coordinator
    return socket.create_connection((at.host, at.port), TIMEOUT_S)


def _tcp(state_dir: Path) -> Check:
    target = NodeConfig.load(state_dir).coordinator.authority
    try:
        _connect(state_dir).close()
    except ConnectionRefusedError:
        return fail(
            "tcp",
            "tcp_refused",
            f"{target} refuses connections: nothing listens there",
            "ask the operator whether touchstone-coordinator serve is running, and on which port",
        )
    except TimeoutError:
        return fail(
            "tcp",
            "tcp_timeout",
            f"{target} does not answer within {TIMEOUT_S:.0f} s",
            "a firewall may drop the packets; the node needs to reach this one port",
        )
    except OSError as error:
        return fail(
            "tcp",
            "tcp_unreachable",
            f"{target} cannot be reached: {error.strerror or type(error).__name__}",
            "check this machine's network and routes",
        )
    return ok("tcp", f"{target} accepts connections")


def _tls(state_dir: Path) -> Check:
    host, context = NodeConfig.load(state_dir).coordinator.host, tls_context(state_dir)
    try:
        with (
            _connect(state_dir) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            return ok("tls", f"{secure.version()}, and the coordinator's certificate holds")
    except ssl.SSLCertVerificationError as error:
        return _distrusted(error, host)
    except (ssl.SSLError, OSError) as error:
        return fail(
            "tls",
            "tls_failed",
            f"what listens there does not speak TLS as a coordinator does: {_reason(error)}",
            "check the port; a proxy that opens TLS connections cannot be used either",
        )


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or type(error).__name__)


def _distrusted(error: ssl.SSLCertVerificationError, host: str) -> Check:
    if error.verify_code in (_EXPIRED, _NOT_YET):
        return fail(
            "tls",
            "tls_out_of_date",
            f"the coordinator's certificate is out of date: {error.verify_message}",
            "check this machine's clock; then ask the operator to restart the coordinator",
        )
    if error.verify_code in (_NAME, _ADDRESS):
        return fail(
            "tls",
            "tls_wrong_name",
            f"the coordinator's certificate does not name {host}",
            "use the host name that the alliance was founded with in node.toml",
        )
    return fail(
        "tls",
        "tls_wrong_authority",
        f"the machine that answers does not belong to this alliance: {error.verify_message}",
        "another alliance's coordinator may listen there, or somebody is in the way",
    )


def _service(state_dir: Path, clock: Clock) -> Iterator[Check]:
    before = clock.now()
    try:
        with membership(state_dir) as client:
            admission = client.check()
    except TouchstoneError as error:
        cause = explained(state_dir, error)
        yield fail("grpc", cause.code, cause.message, cause.hint)
        return
    yield _admitted(admission)
    yield _skew(admission.at - (before + (clock.now() - before) / 2))


def _admitted(admission: Admission) -> Check:
    told = f"admitted as member {admission.index} by {admission.software}"
    if admission.protocol != PROTOCOL:
        return fail(
            "grpc",
            "protocol",
            f"{told}, which speaks protocol {admission.protocol}, not {PROTOCOL}",
            "install the same release on both sides",
        )
    return ok("grpc", told)


def _skew(skew: timedelta) -> Check:
    seconds = skew.total_seconds()
    told = f"the coordinator's clock is {abs(seconds):.1f} s {'ahead' if seconds > 0 else 'behind'}"
    hint = "synchronise this machine's clock; if it is right, tell the operator"
    if abs(skew) > CLOCK_SLACK:
        return fail("clock", "clock_skew", told, hint)
    if abs(skew) > WARN_SKEW:
        return warn("clock", "clock_skew", told, hint)
    return ok("clock", told)
