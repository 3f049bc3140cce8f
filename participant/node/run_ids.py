"""Runs as people name them: by 32 hexadecimal digits, or the first few."""

from __future__ import annotations

from collections.abc import Iterable

from shared.errors import BadInput, NotFound

_HEX = frozenset("0123456789abcdef")


def resolve(text: str, known: Iterable[bytes]) -> bytes:
    """Return the id of the run that ``text`` means.

    Args:
        text: 32 hex digits, of a run known or not, or the first digits of exactly one known run.
        known: ids of the runs to choose from, 16 bytes each.

    Raises:
        BadInput: it is not hex.
        NotFound: no known run, or more than one, begins with it.
    """
    prefix = text.lower()
    if not prefix or not set(prefix) <= _HEX or len(prefix) > 32:
        raise BadInput(f"{text[:40]!r} is not a run id", hint="give its 32 digits or the first few")
    if len(prefix) == 32:
        return bytes.fromhex(prefix)
    found = [run_id for run_id in known if run_id.hex().startswith(prefix)]
    if len(found) != 1:
        many = "more than one run" if found else "no run"
        raise NotFound(
            f"there is {many} on this machine whose id begins with {prefix!r}",
            hint="give all 32 digits; `touchstone-participant run list` shows them",
        )
    return found[0]
