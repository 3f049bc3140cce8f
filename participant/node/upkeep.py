"""What a running node does for its own certificate: renew it in time, and connect with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog

from participant.node.keystore import KeyStore, channel_credentials, connection_pair
from participant.node.renewal import Exchange, over_grpc, renew_if_due
from shared.clock import Clock, SystemClock
from shared.errors import TouchstoneError

CHECK_S = 3600.0
"""Seconds between two looks at the certificate's age; it is renewed most of a year ahead."""

RETRY_S = 60.0
"""Seconds until the next look when one failed, for example because nobody serves."""

_log = structlog.get_logger("certificates")


class NewestCredentials:
    """This member's channel credentials, and newer ones as soon as they are on disk.

    Raises:
        StateError: the folder has not joined an alliance, or a file in it cannot be used.
    """

    def __init__(self, state_dir: Path) -> None:
        self._dir = state_dir
        pair = connection_pair(state_dir)
        self._pem = pair.pem
        self.first = channel_credentials(state_dir, pair)

    @property
    def outdated(self) -> bool:
        """Whether another certificate is on disk than the one handed out last."""
        try:
            return KeyStore.of(self._dir).tls.read_bytes() != self._pem
        except OSError:
            return False  # whatever is wrong with the disk, the connection need not suffer

    def __call__(self) -> grpc.ChannelCredentials | None:
        """Return newer credentials than were handed out last, or None."""
        if not self.outdated:
            return None
        try:
            pair = connection_pair(self._dir)
            newest = channel_credentials(self._dir, pair)
        except TouchstoneError as error:
            _log.warning("certificate not usable", code=error.code)
            return None
        self._pem = pair.pem
        return newest


class Upkeep:
    """Looks after the certificate for as long as the node runs.

    Args:
        state_dir: the member's state folder.
        credentials: what the connection uses.
        reconnect: called on the event loop when there is a newer certificate than it uses.
        exchange: reaches the coordinator; over gRPC by default.
        clock: decides what is due.
        check_s: seconds between two looks.
    """

    def __init__(
        self,
        state_dir: Path,
        credentials: NewestCredentials,
        reconnect: Callable[[], None],
        *,
        exchange: Exchange | None = None,
        clock: Clock | None = None,
        check_s: float = CHECK_S,
    ) -> None:
        self._dir = state_dir
        self._credentials = credentials
        self._reconnect = reconnect
        self._exchange = exchange or over_grpc(state_dir)
        self._clock = clock or SystemClock()
        self._check_s = check_s

    async def run(self) -> None:
        """Renew in time and have the connection use it; cancel it to stop."""
        while True:
            well = await asyncio.to_thread(self._look)
            if self._credentials.outdated:
                self._reconnect()
            await asyncio.sleep(self._check_s if well else min(RETRY_S, self._check_s))

    def _look(self) -> bool:
        try:
            if renew_if_due(self._dir, self._exchange, clock=self._clock):
                _log.info("certificate renewed")
        except TouchstoneError as error:
            _log.warning("certificate not renewed", code=error.code, reason=error.message)
            return False
        except Exception as error:  # noqa: BLE001 - one bad look must not be the last one
            _log.warning("certificate not renewed", error=type(error).__name__)
            return False
        return True
