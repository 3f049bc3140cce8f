"""The newest release that ever ran here: no older one may be activated again.

The number is kept twice, in ``active.json`` and in the node's audit log, so that a lost state file
opens no way back to an old release.
"""

from __future__ import annotations

from dataclasses import dataclass

from participant.deployment.state import LOCAL_ID, Activation, ActiveState
from participant.store import Store


@dataclass(frozen=True, order=True)
class Ran:
    """A release that ran here.

    Attributes:
        sequence: its number, 0 if none ever ran.
        sha256: hex digest of its file, or "" if it was not written down.
        release_id: hex, or "" if it was not written down.
    """

    sequence: int
    sha256: str = ""
    release_id: str = ""

    @classmethod
    def of(cls, activation: Activation) -> Ran:
        """Return the release of an activation."""
        return cls(activation.sequence, activation.sha256, activation.release_id)


def newest_ran(store: Store, state: ActiveState) -> Ran:
    """Return the release with the highest number that ever ran, by state file and audit log."""
    known = [one for one in (state.active, *state.previous) if one is not None]
    here = [Ran.of(one) for one in known if one.release_id != LOCAL_ID]
    # With one number, what is known with its digest comes last in the order.
    return max([Ran(state.highest_sequence), *here, *_logged(store)])


def _logged(store: Store) -> list[Ran]:
    """Return the releases that the audit log says were activated.

    Earlier versions wrote a release's number down when it was verified, and no digest.
    """
    verified = numbers(store)
    found = []
    for event in store.audit.of_kind("model.activate"):
        name, body = str(event.body["release_id"]), event.body
        if name != LOCAL_ID:
            number = int(body.get("sequence", verified.get(name, 0)))
            found.append(Ran(number, str(body.get("sha256", "")), name))
    return found


def numbers(store: Store) -> dict[str, int]:
    """Return the numbers of all releases that were ever verified here, by id in hex."""
    events = store.audit.of_kind("model.verified")
    return {str(event.body["release_id"]): int(event.body["sequence"]) for event in events}


def allowed(store: Store, state: ActiveState, release_id: bytes, *, again: bool) -> tuple[int, str]:
    """Return the lowest number that a release may have, and the digest it must have, if any.

    What runs may be fetched again to repair it, and with ``again``, because a person asks, the
    newest release that ever ran may run once more: rolling back can be undone.
    """
    active, name = state.active, release_id.hex()
    if active is not None and active.release_id == name:
        return active.sequence, active.sha256
    newest = newest_ran(store, state)
    if again and newest.release_id == name:
        return newest.sequence, newest.sha256
    return newest.sequence + 1, ""
