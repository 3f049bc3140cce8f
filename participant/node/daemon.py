"""The long-lived node: one process, one connection, one installed application.

The application is imported here, by name, from this installation, before the first message arrives.
Nothing that a message says can change which code runs.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import shared.fleet.environment  # noqa: F401 - before flwr: no telemetry, no update check

# isort: split
import structlog
from flwr.app import Context, Message, RecordDict

from participant.node.config import NodeConfig
from participant.node.connection import Connection
from participant.node.expiry import wipe_in_time
from participant.node.keystore import connection_pair
from participant.node.probe import explained
from participant.node.release_watch import Looker, ReleaseWatch
from participant.node.upkeep import NewestCredentials, Upkeep
from shared.clock import SystemClock
from shared.errors import Exit, MalformedMessage
from shared.fleet.exchange import ENDED
from shared.fleet.messages import COORDINATOR_NODE
from shared.fleet.wire import Timing
from shared.locks import process_lock
from shared.logs import log_to
from shared.signals import on_stop_signal
from shared.trust.certificates import check_validity

LOCK_FILE = "node.lock"
LOG_FILE = "node.log"

KEPT_RUNS = 16
"""Runs whose Flower context is kept in memory; everything durable is in the state folder."""

App = Callable[[Message, Context], Message]
"""A Flower ``ClientApp``, or anything called like one."""

_log = structlog.get_logger("node")


class AppHandler:
    """Calls the application with this node's context, one per run.

    Args:
        app: the installed application.
        state_dir: told to the application as ``node_config["state-dir"]``.
        index: this member's roster index, Flower's node id.
        run_over: called after each instruction that says that a run is over.
    """

    def __init__(
        self,
        app: App,
        state_dir: Path,
        index: int,
        run_over: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._state_dir = state_dir
        self._index = index
        self._run_over = run_over
        self._contexts: OrderedDict[int, Context] = OrderedDict()

    def __call__(self, message: Message) -> Message:
        """Return the application's reply.

        Raises:
            MalformedMessage: the instruction is addressed to another member.
        """
        said = message.metadata
        if (said.src_node_id, said.dst_node_id) != (COORDINATOR_NODE, self._index):
            raise MalformedMessage("the instruction is addressed to another member")
        _log.info("instruction", kind=said.message_type, group=said.group_id)
        reply = self._app(message, self._context(said.run_id))
        if said.message_type == ENDED:
            self._run_over()
        return reply

    def _context(self, run_id: int) -> Context:
        if run_id not in self._contexts:
            config = {"state-dir": str(self._state_dir)}
            self._contexts[run_id] = Context(run_id, self._index, config, RecordDict(), {})
            while len(self._contexts) > KEPT_RUNS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(run_id)
        return self._contexts[run_id]


def up(
    state_dir: Path,
    load_app: Callable[[], App],
    *,
    timing: Timing | None = None,
    tell: Callable[[str], None] = lambda _text: None,
    wipe: Callable[[Path], bool] | None = None,
) -> None:
    """Run the node of a member's folder until SIGTERM or SIGINT.

    Args:
        state_dir: the member's state folder.
        load_app: imports the installed application; called once, before connecting.
        timing: time limits of the connection.
        tell: told what happens, a line at a time, for people.
        wipe: wipes the folder's runs that have expired, if it finds a moment; see
            :func:`~participant.node.expiry.wipe_in_time`.

    Raises:
        AlreadyRunning: another process runs this folder's node.
        StateError: the folder has not joined an alliance.
        AuthError: the coordinator refuses this member, for example because it was revoked, or
            the member's certificate has expired.
    """
    state_dir = state_dir.resolve()
    config = NodeConfig.load(state_dir)
    check_validity(connection_pair(state_dir).certificate, SystemClock().now())
    with process_lock(state_dir / LOCK_FILE, "a node"):
        log_to(state_dir / LOG_FILE)
        watch = ReleaseWatch(Looker(state_dir))
        handler = AppHandler(load_app(), state_dir, config.member.index, watch.nudge)
        credentials = NewestCredentials(state_dir)
        connection = Connection(
            config.coordinator.authority,
            credentials.first,
            handler,
            timing=timing,
            software=f"touchstone {version('touchstone')}",
            on_state=_reporter(tell, watch.nudge),
            explain=partial(explained, state_dir),
            newer=credentials,
        )
        upkeep = Upkeep(state_dir, credentials, connection.renew)
        said = f"member {config.member.member_id!r} of {config.alliance.name!r} is up"
        wiping = partial(wipe, state_dir) if wipe else None
        watch.start()
        try:
            asyncio.run(_run(connection, upkeep, wiping, lambda: tell(said)))
        finally:
            judging = not watch.stop((timing or Timing()).stop_s)
    if connection.busy or judging:
        # In the middle of training, or of judging a release. Either is safe to lose at any moment,
        # and native threads do not survive an orderly interpreter shutdown.
        os._exit(Exit.OK)


async def _run(
    connection: Connection,
    upkeep: Upkeep,
    wiping: Callable[[], bool] | None,
    ready: Callable[[], None],
) -> None:
    on_stop_signal(connection.stop)
    ready()  # from here on the node can be asked to stop
    beside = [asyncio.create_task(upkeep.run())]
    if wiping is not None:
        beside.append(asyncio.create_task(wipe_in_time(wiping)))
    try:
        await connection.run()
    finally:
        for task in beside:
            task.cancel()


def _reporter(
    tell: Callable[[str], None], connected: Callable[[], None]
) -> Callable[[str, str], None]:
    """Return a listener that logs every state, and tells people only of changes."""
    last = ""

    def report(state: str, text: str) -> None:
        nonlocal last
        _log.info(state, text=text)
        if state == "connected":
            connected()
        if state != last:
            tell(text)
        last = state

    return report
