"""Joining an alliance: keys made here, a token redeemed there, the answer checked and kept.

Killed anywhere, the next call goes on: keys are made once, the coordinator answers the same
token and keys with the same certificates, and ``node.toml``, written last, says it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from participant.node.config import (
    FILE_NAME,
    AllianceSection,
    CoordinatorSection,
    KeysSection,
    MemberSection,
    NodeConfig,
)
from participant.node.issued import check_issued
from participant.node.keystore import KeyStore
from participant.node.policy import write_default
from participant.node.vault import wipe_file
from shared.clock import Clock, SystemClock
from shared.errors import AuthError, NetworkError, StateError, TimedOut, VerificationError
from shared.files import write_atomic
from shared.trust.certificates import (
    MemberName,
    alliance_id_of,
    fingerprint,
    load_certificate,
)
from shared.trust.enrolment import EnrolmentGrant, EnrolmentRequest
from shared.trust.invitation import Invitation
from shared.trust.keys import (
    ensure_identity_key,
    ensure_tls_key,
    private_folder,
    read_passphrase,
)
from shared.trust.requests import make_request, verify_identity_request, verify_tls_request

Exchange = Callable[[Invitation, EnrolmentRequest], EnrolmentGrant]
"""Carries a request to the coordinator that the invitation names, and its answer back."""


@dataclass(frozen=True)
class Joined:
    """The membership of a folder; ``fresh`` tells whether this call obtained it."""

    config: NodeConfig
    fresh: bool


def join(
    state_dir: Path,
    invitation: Invitation,
    exchange: Exchange,
    *,
    ca_fingerprint: str = "",
    passphrase_file: Path | None = None,
    clock: Clock | None = None,
) -> Joined:
    """Make this folder a member, or return the membership it has.

    Args:
        state_dir: the member's folder; created with mode 0700.
        invitation: from the token file, with the address to use.
        exchange: reaches the coordinator.
        ca_fingerprint: what the operator announced by another way; empty if nothing.
        passphrase_file: its first line encrypts the private keys.
        clock: decides whether the certificates are valid.

    Raises:
        FingerprintMismatch: the invitation's certificate is not the announced one.
        StateError: the folder belongs to another alliance or member.
        TokenRefused: the coordinator does not accept the token.
        NetworkError: the coordinator cannot be reached.
        VerificationError: its answer does not fit the request.
    """
    invitation.check_fingerprint(ca_fingerprint)
    existing = _existing(state_dir, invitation)
    if existing is not None:
        write_default(state_dir / "policy.toml")
        return Joined(existing, fresh=False)
    with _left_clean(state_dir):
        private_folder(state_dir)
        files = KeyStore(private_folder(KeyStore.of(state_dir).folder))
        request = _request(files, invitation, read_passphrase(passphrase_file))
        grant = exchange(invitation, request)
    _check(grant, request, invitation, clock or SystemClock())
    _store(files, grant)
    write_default(state_dir / "policy.toml")
    config = _config(grant, invitation, passphrase_file)
    config.write(state_dir)
    return Joined(config, fresh=True)


def check_join(
    state_dir: Path, invitation: Invitation, *, ca_fingerprint: str = ""
) -> NodeConfig | None:
    """Return the membership that a folder has, if any; reach nobody and change nothing.

    Raises:
        FingerprintMismatch: the invitation's certificate is not the announced one.
        StateError: the folder belongs to another alliance or member.
    """
    invitation.check_fingerprint(ca_fingerprint)
    return _existing(state_dir, invitation)


@contextmanager
def _left_clean(state_dir: Path) -> Iterator[None]:
    """Remove keys that were made in vain; keep those that another try needs, and say so.

    After a refusal the token will never be redeemed with them. Where no answer came back, the
    coordinator may have issued certificates over them, which it sends again to the same keys.
    """
    keys = KeyStore.of(state_dir).folder
    new_folder, new_keys = not state_dir.exists(), not keys.exists()
    try:
        yield
    except AuthError:
        if new_keys:
            for path in keys.iterdir() if keys.exists() else ():
                wipe_file(path)
            with suppress(OSError):
                keys.rmdir()
        if new_folder:
            with suppress(OSError):  # somebody else may have put something there
                state_dir.rmdir()
        raise
    except (NetworkError, TimedOut) as error:
        again = "run the same join again: the keys made for it are kept"
        error.hint = f"{error.hint}; then {again}" if error.hint else again
        raise


def at_address(invitation: Invitation, host: str, port: int) -> Invitation:
    """Return the invitation for another address of the same coordinator.

    ``port`` may be either of the two ports the invitation names; any other is taken for the
    mutual-TLS port, with enrolment on the next one.
    """
    if port in {invitation.port, invitation.enrolment_port}:
        return replace(invitation, host=host)
    return replace(invitation, host=host, port=port, enrolment_port=port + 1)


def _existing(state_dir: Path, invitation: Invitation) -> NodeConfig | None:
    if not (state_dir / FILE_NAME).exists():
        return None
    config = NodeConfig.load(state_dir)
    same_alliance = fingerprint(load_certificate(invitation.ca_pem))
    if config.alliance.ca_fingerprint != same_alliance:
        raise StateError(
            f"this folder belongs to the alliance {config.alliance.name!r}",
            hint="use another --dir for another alliance",
        )
    if config.member.member_id != invitation.member_id:
        raise StateError(
            f"this folder belongs to the member {config.member.member_id!r}",
            hint="use another --dir for another member",
        )
    return config


def _request(files: KeyStore, invitation: Invitation, passphrase: bytes | None) -> EnrolmentRequest:
    tls_key = ensure_tls_key(files.tls_key, passphrase)
    identity_key = ensure_identity_key(files.identity_key, passphrase)
    return EnrolmentRequest(
        token=invitation.token,
        member_id=invitation.member_id,
        tls_request=make_request(tls_key, invitation.member_id),
        identity_request=make_request(identity_key, invitation.member_id),
    )


def _check(
    grant: EnrolmentGrant, request: EnrolmentRequest, invitation: Invitation, clock: Clock
) -> None:
    """Accept only certificates of the pinned authority, over exactly the keys that were sent."""
    authority = load_certificate(invitation.ca_pem)
    if load_certificate(grant.ca_certificate) != authority:
        raise VerificationError("the coordinator answered with another authority's certificate")
    check_issued(
        grant.tls_certificate,
        grant.identity_certificate,
        authority=authority,
        name=MemberName(alliance_id_of(authority), grant.index, invitation.member_id),
        tls_key=verify_tls_request(request.tls_request),
        identity_key=verify_identity_request(request.identity_request),
        at=clock.now(),
    )
    if len(grant.coordinator_public_key) != 32:
        raise VerificationError("the coordinator's signing key is malformed")


def _store(files: KeyStore, grant: EnrolmentGrant) -> None:
    write_atomic(files.ca, grant.ca_certificate)
    write_atomic(files.tls, grant.tls_certificate)
    write_atomic(files.identity, grant.identity_certificate)


def _config(
    grant: EnrolmentGrant, invitation: Invitation, passphrase_file: Path | None
) -> NodeConfig:
    authority = load_certificate(invitation.ca_pem)
    named = str(passphrase_file.resolve()) if passphrase_file else ""
    return NodeConfig(
        alliance=AllianceSection(
            name=grant.alliance_name,
            id=alliance_id_of(authority),
            ca_fingerprint=fingerprint(authority),
            coordinator_public_key=grant.coordinator_public_key.hex(),
        ),
        coordinator=CoordinatorSection(
            host=invitation.host, port=invitation.port, enrolment_port=invitation.enrolment_port
        ),
        member=MemberSection(member_id=grant.member_id, index=grant.index),
        keys=KeysSection(passphrase_file=named),
    )
