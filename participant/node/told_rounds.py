"""The coordinator's signed requests of the rounds this member answered, beside its witnesses.

``told-<run>/NNNNN.bin`` in ``secsum/``, one small file a round, at most 5 kB. Nothing in it is
secret: the coordinator wrote it. ``open.bin`` there is the request of the round that is open.
"""

from __future__ import annotations

from pathlib import Path

from shared.files import storage_error, write_atomic
from shared.trust.told import SignedRound

OPEN = "open.bin"


class ToldRounds:
    """What the coordinator signed in one run.

    Args:
        folder: ``secsum/``.
        run_id: 16 bytes.
    """

    def __init__(self, folder: Path, run_id: bytes) -> None:
        self._folder = folder / f"told-{run_id.hex()}"

    def path(self, number: int) -> Path:
        """Return where a round's requests lie, if they were kept."""
        return self._folder / f"{number:05}.bin"

    def opened(self, request: bytes) -> None:
        """Keep the request to mask, before its answer leaves; raises :class:`StorageError`."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self._folder) from error
        write_atomic(self._folder / OPEN, request, mode=0o600)

    def answered(self, number: int, request: bytes) -> None:
        """Keep the request for shares of round ``number`` with the one to mask.

        Of a round that was begun by an earlier version of this software nothing is kept.

        Raises:
            StorageError: the disk refuses.
        """
        masked = self._folder / OPEN
        if masked.exists():
            told = SignedRound(masked.read_bytes(), request)
            write_atomic(self.path(number), told.encode(), mode=0o600)

    def read(self, number: int) -> SignedRound | None:
        """Return a round's requests, or None; raises :class:`MalformedMessage`."""
        path = self.path(number)
        return SignedRound.decode(path.read_bytes()) if path.exists() else None
