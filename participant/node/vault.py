"""The secret store of the secure sum: session secrets on disk, bound to one boot of the machine.

Session secrets must outlive a killed process, or the member would be lost to its round, but must
not outlive the machine's uptime in a backup or a copied disk image. They lie in files of their
own, mode 0600, beside the kernel's boot id; another boot id means they are wiped and the node
joins the next session. The run guards, which only count upwards and are not secret, stay: they
keep a round from being released twice whatever happens to the secrets.

A process killed while it writes leaves the new secrets in a file that no name points to yet. Such
leftovers are wiped when the store is next opened.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import StateError
from shared.files import fsync_dir, storage_error, write_atomic

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_THIS_PROCESS = secrets.token_hex(16)
"""A process number would come again, after a reboot at the latest."""


def boot_binding() -> bytes:
    """Return the kernel's boot id; where there is none, an id of this process alone."""
    try:
        return BOOT_ID.read_bytes().strip()
    except OSError:
        return f"process-{_THIS_PROCESS}".encode()


class Vault:
    """Secrets and guards by run, in ``<state>/secsum``.

    Raises:
        StateError: another process of this node holds the folder.
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, binding: bytes | None = None) -> None:
        self._dir = folder
        with _storage_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._take_lock()
        for part in folder.glob(".*.part"):  # nobody else writes here while the lock is held
            wipe_file(part)
        self._bind(boot_binding() if binding is None else binding)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise StateError(
                "another process is using this node's secret store",
                hint="only one node may run on a state folder",
            ) from error

    def _bind(self, binding: bytes) -> None:
        mark = self._dir / "boot"
        if not mark.exists() or mark.read_bytes() != binding:
            for path in [*self._dir.glob("session-*.bin"), *self._dir.glob("upload-*.bin")]:
                wipe_file(path)
            write_atomic(mark, binding, mode=0o600)

    def close(self) -> None:
        """Let another process have the store."""
        os.close(self._lock)

    def guard(self, run_id: bytes) -> bytes | None:
        """Return the run's guard, or None for a run never seen."""
        return _read(self._dir / f"guard-{run_id.hex()}.bin")

    def session(self, run_id: bytes) -> bytes | None:
        """Return the secrets of the run's open session, or None."""
        return _read(self._dir / f"session-{run_id.hex()}.bin")

    def save(self, run_id: bytes, guard: bytes, session: bytes, upload: bytes = b"") -> None:
        """Persist one step, durably, before its answer may leave.

        The guard goes first: a crash in between leaves a guard ahead of its session, which
        refuses, never a session ahead of its guard, which could release twice.

        Args:
            run_id: 16 bytes.
            guard: the run's guard.
            session: the session's secrets.
            upload: a masked vector, when the step made one, so that asking again gets its bytes.
        """
        write_atomic(self._dir / f"guard-{run_id.hex()}.bin", guard, mode=0o600)
        if upload:
            write_atomic(self._dir / f"upload-{run_id.hex()}.bin", upload, mode=0o600)
        self._replace_secret(self._dir / f"session-{run_id.hex()}.bin", session)

    def _replace_secret(self, path: Path, data: bytes) -> None:
        with _storage_errors(path):
            old = os.open(path, os.O_WRONLY) if path.exists() else None
        try:
            write_atomic(path, data, mode=0o600)
            if old is not None:
                with _storage_errors(path):
                    _overwrite(old)
        finally:
            if old is not None:
                os.close(old)

    def manifest(self, run_id: bytes) -> bytes | None:
        """Return the signed manifest this member agreed to, or None."""
        return _read(self._dir / f"manifest-{run_id.hex()}.bin")

    def manifests(self) -> dict[bytes, bytes]:
        """Return the kept manifests by run id."""
        return {
            bytes.fromhex(path.stem.removeprefix("manifest-")): path.read_bytes()
            for path in self._dir.glob("manifest-*.bin")
        }

    def save_manifest(self, run_id: bytes, signed: bytes) -> None:
        """Keep the signed manifest of a run."""
        write_atomic(self._dir / f"manifest-{run_id.hex()}.bin", signed, mode=0o600)

    def upload(self, run_id: bytes) -> bytes | None:
        """Return the masked vector of the open slot, or None."""
        return _read(self._dir / f"upload-{run_id.hex()}.bin")

    def end(self, run_id: bytes) -> None:
        """Wipe the secrets of a run that is over; its guard and what was agreed to stay."""
        session, upload = (f"{kind}-{run_id.hex()}.bin" for kind in ("session", "upload"))
        wipe_file(self._dir / session)
        for name in (session, upload):  # left where a disk would not even let one be removed
            for part in self._dir.glob(f".{name}.*.part"):
                wipe_file(part)
        manifest = self._dir / f"manifest-{run_id.hex()}.bin"
        with _storage_errors(self._dir):
            (self._dir / upload).unlink(missing_ok=True)
            if manifest.exists():
                manifest.replace(self._dir / f"agreed-{run_id.hex()}.bin")
                fsync_dir(self._dir)


def agreed_manifest(folder: Path, run_id: bytes) -> bytes | None:
    """Return the signed manifest of a run that has ended here, or None; needs no lock."""
    return _read(folder / f"agreed-{run_id.hex()}.bin")


def runs_open(folder: Path) -> set[bytes]:
    """Return the ids of the runs that have not ended here; needs no lock."""
    return _ids(folder, "manifest")


def runs_answered(folder: Path) -> set[bytes]:
    """Return the ids of all runs this member ever agreed to that left a trace here."""
    return _ids(folder, "manifest") | _ids(folder, "agreed") | _ids(folder, "witness")


def _ids(folder: Path, kind: str) -> set[bytes]:
    names = (path.stem.removeprefix(f"{kind}-") for path in folder.glob(f"{kind}-*.bin"))
    return {bytes.fromhex(name) for name in names}


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _overwrite(handle: int) -> None:
    length = os.fstat(handle).st_size
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, bytes(length))


def wipe_file(path: Path) -> None:
    """Overwrite a file with zeros and remove it; best effort on copy-on-write disks."""
    with _storage_errors(path):
        try:
            handle = os.open(path, os.O_WRONLY)
        except FileNotFoundError:
            return
        try:
            _overwrite(handle)
            os.fsync(handle)
            path.unlink()
            fsync_dir(path.parent)
        finally:
            os.close(handle)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error
