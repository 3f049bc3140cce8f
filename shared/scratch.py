"""The folder for temporary files, where a service may write to its state folder alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def make_scratch(environ: Mapping[str, str] | None = None) -> None:
    """Make the folder that ``TMPDIR`` names, mode 0700, if it alone is missing.

    A service unit can say ``TMPDIR=<state folder>/tmp`` but nobody has made that folder when it
    starts for the first time, and libraries do not import without a place for temporary files. On
    a disk that does not take it nothing happens: most commands can do without, and what cannot
    says so.
    """
    named = (os.environ if environ is None else environ).get("TMPDIR", "")
    folder = Path(named)
    if not named or folder.exists() or not folder.parent.is_dir():
        return
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    tempfile.tempdir = None  # it is looked for again, if somebody has looked already
