"""Every kind of event that the coordinator's audit log may hold, and what it means.

The list is closed: a test reads the coordinator's source and fails when a kind is written that is
not listed here, or listed and never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from shared.errors import BadInput

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "alliance.founded": "the alliance came into being",
        "member.invited": "a one-time token was written for a newcomer",
        "member.invitation_withdrawn": "a token was voided because it could not be handed over",
        "member.joined": "a token was redeemed and certificates were issued",
        "member.revoked": "a member was shut out for good",
        "member.certificate_issued": "a member asked for new certificates and got them",
        "member.certificate_replaced": "a renewed certificate came into use; the old one is void",
        "member.renewal_refused": "a member asked for certificates that are not its to have",
        "server.certificate_renewed": "the coordinator's own TLS certificate was issued anew",
        "enrolment.refused": "a token that was once issued was used wrongly",
        "fleet.reply_forged": "a member answered a message that was addressed to another",
        "fleet.reply_malformed": "a member's answer could not be read",
        "run.started": "the operator launched a run",
        "run.manifest": "the manifest of a run in groups was signed, its groups being drawn",
        "run.aborted": "the operator ended a run early",
        "run.state": "a run moved to another state",
        "run.resumed": "a run went on after the coordinator had stopped",
        "run.refused": "a member said no to a run, or not yet; names the reason code it told",
        "session.opened": "a secure-sum session was set up",
        "session.too_few": "too few members took part in setting up a session",
        "session.complaints": "members complained; the next session excludes some",
        "session.member_failed": "a member answered the set-up or a question with an error",
        "session.bad_message": "a member's set-up message was refused",
        "round.member_lost": "a member dropped out of a round",
        "round.rejected": "a round's sum was refused",
        "groups.drawn": "the groups of a roster were drawn",
        "groups.not_revealed": "members did not reveal; the drawing came to nothing",
        "groups.member_failed": "a member answered a drawing with an error, or with nonsense",
        "group.refused": "so many members of a group refused a run that it is out of it",
        "group.closed": "a group is out of a run: two of its rounds in a row were burnt",
        "release.published": "a model was released",
    }
)


def check_kind(kind: str) -> str:
    """Return ``kind`` if the log may hold it.

    Raises:
        BadInput: it may not.
    """
    if kind not in KINDS:
        raise BadInput(f"there are no events of the kind {kind[:64]!r}", hint=", ".join(KINDS))
    return kind
