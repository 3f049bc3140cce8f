"""The folder for temporary files, where a service may write to its state folder alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from shared.files import storage_error


def make_scratch(environ: Mapping[str, str] | None = None) -> None:
    """Make the folder that ``TMPDIR`` names, mode 0700, if it alone is missing.

    A service unit can say ``TMPDIR=<state folder>/tmp`` but nobody has made that folder when it
    starts for the first time, and libraries do not import without a place for temporary files.

    Raises:
        StorageError: the folder cannot be made.
    """
    named = (os.environ if environ is None else environ).get("TMPDIR", "")
    folder = Path(named)
    if not named or folder.exists() or not folder.parent.is_dir():
        return
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    tempfile.tempdir = None  # it is looked for again, if somebody has looked already
