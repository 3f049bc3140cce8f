"""The registry of a real alliance on loopback: a grpc.aio server with mutual TLS."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import grpc

from coordinator.db import Database
from coordinator.db.records import Run, RunState
from coordinator.enrolment.access import Gatekeeper
from coordinator.enrolment.files import load_signing_key
from coordinator.enrolment.tls import mtls_server_credentials
from coordinator.registry.models import ReleaseDraft
from coordinator.registry.publish import publish
from coordinator.registry.servicer import add
from tests.support.alliance import Alliance
from tests.support.release import a_draft
from tests.support.waiting import PATIENCE_S


@contextmanager
def serving(alliance: Alliance, database: Database) -> Iterator[None]:
    """Serve the alliance's registry on its mutual-TLS port while the body runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> grpc.aio.Server:
        server = grpc.aio.server()
        folder = alliance.coordinator_dir
        add(
            server,
            database=database,
            directory=folder,
            gatekeeper=Gatekeeper.open(folder, database),
        )
        server.add_secure_port(alliance.authority, mtls_server_credentials(folder))
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(PATIENCE_S)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


def release(alliance: Alliance, database: Database, draft: ReleaseDraft | None = None) -> bytes:
    """Publish a small release of a run that is added for it."""
    draft = draft or a_draft()
    run = Run(draft.run_id.hex(), database.clock.now(), 3, RunState.RELEASING)
    database.write("add_run", lambda unit: unit.runs.add(run))
    key = load_signing_key(alliance.coordinator_dir)
    return publish(database, alliance.coordinator_dir, replace(draft), signing_key=key)
