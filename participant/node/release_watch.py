"""Looks for releases for as long as the node runs, whether or not anybody says that there is one.

The coordinator tells a node when a run has ended, but the node may be away then, the message may be
lost with the coordinator's process, or the release may not be had at that moment. So the node also
asks the registry itself: whenever it has connected, after each run, now and then, and again with
growing pauses when it could not be answered. It asks in the same way whatever it decided before.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from participant.deployment.past import past_of
from participant.deployment.service import deploy_release
from participant.node.registry_client import ChannelFactory, ReleaseLine, channel_factory, registry
from participant.store import Store
from shared.clock import Clock, SystemClock
from shared.errors import NotFound, TouchstoneError, VerificationError
from shared.fleet.errors import DigestMismatch

CHECK_S = 3600.0
"""Seconds between two looks when all is well: the node is told of most releases at once."""

RETRY_FIRST_S = 5.0
"""Upper bound of the first pause after a look that failed; it doubles from try to try."""

RETRY_MAX_S = 600.0
"""Upper bound of any such pause."""

LISTED = 20
"""Releases that a node looks at: after a long absence the newest ones are enough."""

_log = structlog.get_logger("runs")
_random = secrets.SystemRandom()

Look = Callable[[], bool]
"""Judges what there is; false if something could not be had or written and is to be tried again."""


class ReleaseWatch:
    """One daemon thread that looks for releases.

    Args:
        look: called in the thread.
        check_s: upper bound of the pause between two looks when all is well.
        retry_s: upper bound of the first pause after a look that failed.
        drawn: draws from between two numbers, so that nodes spread out.
    """

    def __init__(
        self,
        look: Look,
        *,
        check_s: float = CHECK_S,
        retry_s: float = RETRY_FIRST_S,
        drawn: Callable[[float, float], float] = _random.uniform,
    ) -> None:
        self._look = look
        self._check_s = check_s
        self._retry_s = retry_s
        self._drawn = drawn
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="releases", daemon=True)

    def start(self) -> None:
        """Begin; the first look waits for the first nudge."""
        self._thread.start()

    def nudge(self) -> None:
        """There may be something new, or somebody to ask: look now. Safe from any thread."""
        self._due.set()

    def stop(self, grace_s: float) -> bool:
        """Look no more; return whether the look in progress ended within ``grace_s``.

        It may be killed at any moment: a deployment is safe to lose.
        """
        self._stopping.set()
        self._due.set()
        self._thread.join(grace_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        failures = 0
        self._due.wait()
        while not self._stopping.is_set():
            self._due.clear()
            failures = 0 if self._looked() else failures + 1
            self._due.wait(self._pause(failures))

    def _looked(self) -> bool:
        try:
            return self._look()
        except Exception as error:  # noqa: BLE001 - one bad look must not be the last one
            _log.warning("releases not looked at", error=type(error).__name__)
            return False

    def _pause(self, failures: int) -> float:
        if not failures:
            return self._drawn(self._check_s / 2, self._check_s)
        return self._drawn(0, min(RETRY_MAX_S, self._retry_s * 2 ** min(failures - 1, 20)))


class Looker:
    """Judges every release of the registry that was not judged here, oldest first.

    Args:
        state_dir: a joined state folder.
        factory: opens a channel to the coordinator; by default as the folder says.
        clock: stamps decisions.
    """

    def __init__(
        self, state_dir: Path, *, factory: ChannelFactory | None = None, clock: Clock | None = None
    ) -> None:
        self._dir = state_dir
        self._factory = factory
        self._clock = clock or SystemClock()

    def __call__(self) -> bool:
        """Look once; false if it is to be tried again soon."""
        try:
            # Anew each time: the certificate may have been renewed since.
            factory = self._factory or channel_factory(self._dir)
            with registry(factory) as client:
                lines = client.releases(LISTED)
            had = [self._judged(line, factory) for line in self._unjudged(lines)]
        except TouchstoneError as error:
            _log.warning("releases not looked at", code=error.code, reason=error.message)
            return False
        return all(had)

    def _unjudged(self, lines: list[ReleaseLine]) -> list[ReleaseLine]:
        store = Store.open(self._dir, clock=self._clock)
        try:
            return past_of(store).unjudged(lines)
        finally:
            store.close()

    def _judged(self, line: ReleaseLine, factory: ChannelFactory) -> bool:
        """Judge one release; false if it could not be had.

        Raises:
            TouchstoneError: anything that is about this node or its connection, not the release.
        """
        try:
            outcome = deploy_release(
                self._dir, bytes.fromhex(line.release_id), factory, clock=self._clock
            )
        except (VerificationError, NotFound) as error:
            _log.warning("release not deployed", code=error.code, reason=error.message)
            # What does not verify has been written down; what is gone may be put back.
            return not isinstance(error, NotFound | DigestMismatch)
        _log.info("release judged", decision=outcome.decision, reason=outcome.reason)
        return True
