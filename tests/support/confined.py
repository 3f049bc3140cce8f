"""Runs a command that may write nowhere but in one folder, enforced by the kernel (Landlock).

``python -m tests.support.confined [--no-exec-memory] FOLDER COMMAND ...`` does for any user what
``ProtectSystem=strict`` with a state directory, or a container with a read-only root and a volume,
does for a service: native libraries are held to it as well, which an audit hook would not see.
``--no-exec-memory`` adds what ``MemoryDenyWriteExecute`` forbids. See landlock(7) and
PR_SET_MDWE(2const).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # one number on every architecture
_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE, _PR_GET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 66, 1

WRITE_FILE = 1 << 1
TRUNCATE = 1 << 14
CHANGES = WRITE_FILE | TRUNCATE | sum(1 << bit for bit in range(4, 14))
"""Writing, truncating, making, removing and moving files of every kind."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(*arguments: object) -> int:
    result: int = _libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def landlock_version() -> int:
    """Return the kernel's version of Landlock, 0 where there is none."""
    try:
        return _call(_CREATE, None, 0, _VERSION)
    except OSError:
        return 0


def denies_executable_memory() -> bool:
    """Tell whether the kernel can refuse executable memory to a process (Linux 6.3)."""
    return bool(_libc.prctl(_PR_GET_MDWE, 0, 0, 0, 0) >= 0)


def confine(folder: str) -> None:
    """Let this process and its children change nothing outside ``folder``, for good."""
    attributes = struct.pack("=Q", CHANGES)
    rules = _call(_CREATE, attributes, len(attributes), 0)
    for path, allowed in ((folder, CHANGES), ("/dev/null", WRITE_FILE)):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        _call(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", allowed, place), 0)
        os.close(place)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call(_RESTRICT, rules, 0)
    os.close(rules)


def deny_executable_memory() -> None:
    """Refuse memory that is writable and executable, and making memory executable later."""
    if _libc.prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel has no PR_SET_MDWE (Linux 6.3)")


def main() -> None:
    """Confine this process and become the command."""
    arguments = sys.argv[1:]
    if arguments[0] == "--no-exec-memory":
        deny_executable_memory()
        arguments = arguments[1:]
    confine(arguments[0])
    os.execvp(arguments[1], arguments[1:])  # noqa: S606 - no shell is what is wanted


if __name__ == "__main__":
    main()
