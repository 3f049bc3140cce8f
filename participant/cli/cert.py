"""`cert show|renew`: this member's certificates."""

from __future__ import annotations

from pathlib import Path

import typer

from participant.cli.options import DryRun
from participant.node.keystore import KeyStore, connection_pair
from shared.clock import SystemClock, rfc3339
from shared.console import JsonFlag, emit
from shared.trust.certificates import days_left, fingerprint, load_certificate, renewal_due

certs = typer.Typer(help="This member's certificates.", no_args_is_help=True)
DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")


def register(app: typer.Typer) -> None:
    """Add the noun to the command."""
    app.add_typer(certs, name="cert")


@certs.command("show")
def show(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """Show how long the certificates last; `up` renews them by itself."""
    emit({"certificates": _rows(folder)}, as_json=as_json, text=_text(_rows(folder)))


@certs.command("renew")
def renew(folder: Path = DirOption, dry_run: DryRun = False, as_json: bool = JsonFlag) -> None:
    """Renew both certificates now, over a fresh connection key; a running node takes them up."""
    from participant.node import renewal  # imports polars

    if not dry_run:
        renewal.renew(folder, renewal.over_grpc(folder))
    rows, result = _rows(folder), "would_renew" if dry_run else "renewed"
    emit({"result": result, "certificates": rows}, as_json=as_json, text=f"{result}\n{_text(rows)}")


def _rows(folder: Path) -> list[dict[str, object]]:
    pair, now = connection_pair(folder), SystemClock().now()
    identity = load_certificate(KeyStore.of(folder).identity.read_bytes())
    authority = load_certificate(KeyStore.of(folder).ca.read_bytes())
    return [
        {
            "name": name,
            "fingerprint": fingerprint(certificate),
            "not_before": rfc3339(certificate.not_valid_before_utc),
            "not_after": rfc3339(certificate.not_valid_after_utc),
            "days_left": int(days_left(certificate, now)),
            "renewal_due": renewal_due(certificate, now) and name != "authority",
        }
        for name, certificate in (
            ("connection", pair.certificate),
            ("identity", identity),
            ("authority", authority),
        )
    ]


def _text(rows: list[dict[str, object]]) -> str:
    return "\n".join(
        f"{row['name']:<11} until {row['not_after']}, {row['days_left']} days"
        + (", renewal is due" if row["renewal_due"] else "")
        for row in rows
    )
