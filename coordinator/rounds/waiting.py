"""Asks members that said "not yet" whether they would agree to the run by now.

A person at a member may take hours to look at a manifest, and a node may train at night only. The
others go on without them; between rounds those who wait are asked with the manifest alone, which
costs them a look at their policy and nobody a new session until one of them agrees.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from coordinator.rounds.context import RunContext
from coordinator.rounds.setup import Refusals
from shared.fleet.exchange import CONSENT, FAILED, OK, REFUSED, Instruction

ANSWER_S = 5.0
"""How long a round may be held up for answers: a member that waits has nothing else to do."""


def ask_waiting(
    run: RunContext, members: AbstractSet[int], refusals: Refusals
) -> tuple[frozenset[int], frozenset[int]]:
    """Ask ``members`` (roster indices that are node ids) and bring ``refusals`` up to date.

    Returns:
        Those who agree by now, and those who did not answer in time.
    """
    agreed: set[int] = set()
    silent = set(members)
    asked = dict.fromkeys(sorted(members), Instruction(manifest=run.signed_manifest))
    timeout = min(ANSWER_S, run.manifest.timeouts.setup_s)
    for reply in run.courier.ask(CONSENT, asked, timeout=timeout, away_s=0.0):
        index, answer = reply.node_id, reply.answer
        if answer.status == OK:
            silent.discard(index)
            agreed.add(index)
            refusals.by_policy.pop(index, None)
        elif answer.status == REFUSED:
            silent.discard(index)
            refusals.by_policy[index] = answer.code
            run.book.refused(index, answer.code)
        if answer.status != FAILED:
            refusals.failed.pop(index, None)
        elif refusals.failed.get(index) != answer.code:  # asked every round: noted when it changes
            refusals.failed[index] = answer.code
            run.book.event("session.member_failed", member=index, code=answer.code)
    return frozenset(agreed), frozenset(silent)
