"""What the serving process does besides moving bytes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from coordinator import serving
from coordinator.fleet.hub import Hub
from coordinator.serving import auditor, listen
from shared.errors import Exit, NetworkError
from shared.fleet.wire import Timing
from shared.limits import MAX_MEMBER_CALLS, MAX_MEMBERS
from shared.signals import on_stop_signal
from tests.support.alliance import found_alliance
from tests.support.fleet import Pki


def test_fleet_events_end_in_the_audit_chain(tmp_path: Path) -> None:
    database = found_alliance(tmp_path, []).database()
    with ThreadPoolExecutor(1) as writer:
        audit = auditor(database, writer)
        audit("fleet.reply_forged", {"member": 2, "message_id": "ab"})
        audit("fleet.reply_malformed", {"member": 3})
    kinds = database.read("kinds", lambda unit: [e.kind for e in unit.audit.events()])
    database.read("verify", lambda unit: unit.audit.verify())
    database.close()
    assert kinds[-2:] == ["fleet.reply_forged", "fleet.reply_malformed"]


def test_an_audit_entry_that_cannot_be_written_does_not_stop_the_service(tmp_path: Path) -> None:
    database = found_alliance(tmp_path, []).database()
    with ThreadPoolExecutor(1) as writer:
        auditor(database, writer)("fleet.odd", {"not": {"json"}})  # type: ignore[dict-item]
        auditor(database, writer)("fleet.fine", {})
    kinds = database.read("kinds", lambda unit: [e.kind for e in unit.audit.events()])
    database.close()
    assert "fleet.odd" not in kinds
    assert kinds[-1] == "fleet.fine"


def test_a_taken_port_is_a_network_error() -> None:
    async def bind(port: int) -> None:
        listen(grpc.aio.server(), "127.0.0.1", port, Pki().server)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NetworkError, match=str(port)) as caught:
            asyncio.run(bind(port))
    assert caught.value.exit_code is Exit.NETWORK


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_second_insists(number: signal.Signals) -> None:
    asked = 0

    async def main() -> None:
        stop = asyncio.Event()

        def ask() -> None:
            nonlocal asked
            asked += 1
            stop.set()

        on_stop_signal(ask)
        os.kill(os.getpid(), number)
        async with asyncio.timeout(60):
            await stop.wait()

    before = signal.getsignal(number)
    try:
        asyncio.run(main())
        assert asked == 1
        assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    finally:
        signal.signal(number, before)


def test_the_members_port_takes_a_bounded_number_of_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for every member's stream and one more call of each, and not for a flood."""
    alliance = found_alliance(tmp_path, [])
    database = alliance.database()
    record = database.read("alliance", lambda unit: unit.alliance.get())
    seen: dict[str, object] = {}

    class MadeError(Exception):
        pass

    def server(**options: object) -> None:
        seen.update(options)
        raise MadeError

    async def listen_once() -> None:
        async with serving._listening(alliance.coordinator_dir, database, record, Hub(), Timing()):
            pytest.fail("no server was made")

    monkeypatch.setattr(grpc.aio, "server", server)
    with pytest.raises(MadeError):
        asyncio.run(listen_once())
    database.close()
    assert seen["maximum_concurrent_rpcs"] == MAX_MEMBER_CALLS >= 2 * MAX_MEMBERS
