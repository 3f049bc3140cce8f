"""``touchstone-participant join``: become a member of an alliance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from participant.cli.options import DryRun
from participant.node.enrolment_client import exchange_over_grpc
from participant.node.join import Joined, at_address, check_join
from participant.node.join import join as join_alliance
from shared.console import JsonFlag, emit, say
from shared.trust.invitation import read_invitation
from shared.trust.names import parse_authority


def join(
    state_dir: Annotated[
        Path, typer.Option("--dir", help="The node's folder.", envvar="TOUCHSTONE_DIR")
    ],
    token_file: Annotated[
        Path, typer.Option("--token-file", help="The invitation the operator sent.")
    ],
    url: Annotated[
        str, typer.Option("--url", help="HOST:PORT of the coordinator; else the invitation's.")
    ] = "",
    ca_fingerprint: Annotated[
        str,
        typer.Option("--ca-fingerprint", help="What the operator told you by another way."),
    ] = "",
    passphrase_file: Annotated[
        Path | None,
        typer.Option("--passphrase-file", help="Encrypt the private keys with its first line."),
    ] = None,
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """Make this node's keys here, redeem the token and store the certificates."""
    invitation = read_invitation(token_file)
    if url:
        invitation = at_address(invitation, *parse_authority(url))
    if not ca_fingerprint:
        say("the fingerprint below comes from the token file: compare it with the operator's")
    if dry_run and check_join(state_dir, invitation, ca_fingerprint=ca_fingerprint) is None:
        data = {"result": "would_join", "member_id": invitation.member_id, "host": invitation.host}
        emit(data, as_json=as_json, text=f"would_join: {invitation.alliance}")
        return
    result = join_alliance(
        state_dir,
        invitation,
        exchange_over_grpc,
        ca_fingerprint=ca_fingerprint,
        passphrase_file=passphrase_file,
    )
    if not result.fresh:
        say(f"already_joined: {state_dir} is a member already; unchanged")
    emit(_data(result), as_json=as_json, text=_text(result))


def _data(result: Joined) -> dict[str, object]:
    config = result.config
    return {
        "result": "joined" if result.fresh else "already_joined",
        "alliance": config.alliance.name,
        "alliance_id": config.alliance.id,
        "member_id": config.member.member_id,
        "index": config.member.index,
        "coordinator": config.coordinator.authority,
        "ca_fingerprint": config.alliance.ca_fingerprint,
    }


def _text(result: Joined) -> str:
    config = result.config
    return (
        f"alliance        {config.alliance.name}\n"
        f"member          {config.member.member_id} (number {config.member.index})\n"
        f"coordinator     {config.coordinator.authority}\n"
        f"ca fingerprint  {config.alliance.ca_fingerprint}"
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(join)
