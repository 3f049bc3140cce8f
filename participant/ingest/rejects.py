"""Rows that could not be kept: a number and a reason each, never their content."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from shared.files import fsync_dir, storage_error


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that was not kept.

    Attributes:
        row: Data rows of CSV and Parquet count from 1 after the header, JSON Lines by line.
        code: Stable reason code.
        column: Canonical column or ``signals.NAME``; empty when the whole row is at fault.
        reason: For people, without the row's content.
    """

    row: int
    code: str
    column: str
    reason: str


class RejectFile:
    """Collects rejects in a JSON Lines file that appears only when it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.reasons: Counter[str] = Counter()
        self._partial = path.with_name(f".{path.name}.part")
        self._file: IO[str] | None = None

    def add(self, rejects: Iterable[Reject]) -> None:
        """Write some rejects.

        Raises:
            StorageError: the disk is full, read-only or broken.
        """
        for reject in rejects:
            self.count += 1
            self.reasons[reject.code] += 1
            try:
                self._open().write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")
            except OSError as error:
                raise storage_error(error, self.path) from error

    def keep(self) -> Path | None:
        """Put the finished file in place and return its path, or None without rejects.

        Raises:
            StorageError: the disk is full, read-only or broken.
        """
        if self._file is None:
            return None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self.path)
            fsync_dir(self.path.parent)
        except OSError as error:
            raise storage_error(error, self.path) from error
        self._file = None
        return self.path

    def discard(self) -> None:
        """Remove what was written unless it was kept; as far as a failing disk allows it."""
        if self._file is None:
            return
        with suppress(OSError):
            self._file.close()
        self._file = None
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def _open(self) -> IO[str]:
        if self._file is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file = os.fdopen(handle, "w", encoding="utf-8")
        return self._file
