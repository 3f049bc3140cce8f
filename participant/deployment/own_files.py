"""Files the member makes for itself, beside the releases: local-only models and personal heads."""

from __future__ import annotations

from pathlib import Path

from participant.deployment.state import read_state
from shared.files import storage_error, write_atomic


def keep_file(models: Path, name: str, data: bytes) -> None:
    """Write ``name``, relative to ``models/``, and remove its kin that no activation needs.

    Raises:
        StorageError: the disk refuses; nothing half-written is left.
    """
    path = models / name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, data, mode=0o600)
        needed = {models / one for one in read_state(models).files()} | {path}
        for other in path.parent.glob(f"*{path.suffix}"):
            if other not in needed:
                other.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
