"""`cert show|renew`: the coordinator's own TLS certificate and the authority's."""

from __future__ import annotations

from pathlib import Path

import typer
from cryptography import x509

from coordinator.cli.options import DryRun, StateDir, opened
from coordinator.enrolment.files import load_authority, load_ca, load_server_pair
from coordinator.enrolment.server_certificate import renew_server
from shared.clock import SystemClock, rfc3339
from shared.console import JsonFlag, emit
from shared.trust.certificates import days_left, fingerprint, load_certificate, renewal_due

certs = typer.Typer(help="The coordinator's certificates.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the noun to the command."""
    app.add_typer(certs, name="cert")


@certs.command("show")
def show(state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Show how long the certificates last; `serve` renews the server's by itself."""
    rows = _rows(state_dir)
    emit({"certificates": rows}, as_json=as_json, text=_text(rows))


@certs.command("renew")
def renew(state_dir: StateDir, dry_run: DryRun = False, as_json: bool = JsonFlag) -> None:
    """Issue the server's certificate anew now; a running `serve` takes it up by itself."""
    if dry_run:
        load_authority(state_dir)  # what issuing needs
    else:
        with opened(state_dir) as db:
            renew_server(state_dir, db)
    rows, result = _rows(state_dir), "would_renew" if dry_run else "renewed"
    emit({"result": result, "certificates": rows}, as_json=as_json, text=f"{result}\n{_text(rows)}")


def _rows(state_dir: Path) -> list[dict[str, object]]:
    server = load_certificate(load_server_pair(state_dir)[1])
    return [_row("server", server), _row("authority", load_ca(state_dir))]


def _row(name: str, certificate: x509.Certificate) -> dict[str, object]:
    now = SystemClock().now()
    return {
        "name": name,
        "fingerprint": fingerprint(certificate),
        "not_before": rfc3339(certificate.not_valid_before_utc),
        "not_after": rfc3339(certificate.not_valid_after_utc),
        "days_left": int(days_left(certificate, now)),
        "renewal_due": name == "server" and renewal_due(certificate, now),
    }


def _text(rows: list[dict[str, object]]) -> str:
    return "\n".join(
        f"{row['name']:<10} until {row['not_after']}, {row['days_left']} days"
        + (", renewal is due" if row["renewal_due"] else "")
        for row in rows
    )
