"""What the authority signs, and what is believed of a certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from shared.limits import MAX_CERTIFICATE_BYTES, MAX_CSR_BYTES
from shared.trust import certificates as certs
from shared.trust.authority import Authority, found_authority
from shared.trust.errors import CertificateRefused, RequestRefused
from shared.trust.keys import new_identity_key, new_tls_key
from shared.trust.peer import peer_of, peer_pem
from shared.trust.requests import make_request, verify_identity_request, verify_tls_request

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class House:
    """An authority and its alliance's id."""

    authority: Authority
    alliance_id: str

    @classmethod
    def build(cls) -> House:
        key = new_tls_key()
        authority = Authority(key, found_authority(key, "Alliance", NOW))
        return cls(authority, certs.alliance_id_of(authority.certificate))

    def tls(self, member_id: str = "brand", index: int = 3) -> x509.Certificate:
        return self.authority.issue_member_tls(
            new_tls_key().public_key(), member_id, self.alliance_id, index, NOW
        )

    def peer(self, certificate: x509.Certificate, at: datetime = NOW) -> object:
        return peer_of(
            certs.to_pem(certificate),
            authority=self.authority.certificate,
            alliance_id=self.alliance_id,
            at=at,
        )


@pytest.fixture(scope="module")
def house() -> House:
    return House.build()


def test_the_authority_may_sign_end_entities_only(house: House) -> None:
    certificate = house.authority.certificate
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature


def test_the_server_certificate_holds_for_its_host_by_an_independent_verifier(house: House) -> None:
    certificate = house.authority.issue_server(new_tls_key().public_key(), "c.example.org", NOW)
    builder = PolicyBuilder().store(Store([house.authority.certificate])).time(NOW)
    for name in (x509.DNSName("c.example.org"), x509.DNSName("localhost")):
        assert builder.build_server_verifier(name).verify(certificate, [])
    loopback = x509.IPAddress(ip_address("127.0.0.1"))
    assert builder.build_server_verifier(loopback).verify(certificate, [])
    with pytest.raises(x509.verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("else.example.org")).verify(certificate, [])


def test_a_members_certificate_names_it(house: House) -> None:
    certificate = house.tls("brand", 3)
    peer = peer_of(
        certs.to_pem(certificate),
        authority=house.authority.certificate,
        alliance_id=house.alliance_id,
        at=NOW,
    )
    assert (peer.index, peer.member_id) == (3, "brand")
    assert peer.fingerprint == certs.fingerprint(certificate)
    verified = (
        PolicyBuilder()
        .store(Store([house.authority.certificate]))
        .time(NOW)
        .build_client_verifier()
        .verify(certificate, [])
    )
    assert verified.subjects is not None


def test_another_authority_of_the_same_name_is_refused(house: House) -> None:
    other = House.build()
    with pytest.raises(CertificateRefused, match="not issued by this alliance"):
        house.peer(other.tls())


@pytest.mark.parametrize(
    ("shift", "text"),
    [(timedelta(days=826), "expired"), (timedelta(minutes=-6), "not valid yet")],
)
def test_a_certificate_out_of_its_time_is_refused(
    house: House, shift: timedelta, text: str
) -> None:
    with pytest.raises(CertificateRefused, match=text):
        house.peer(house.tls(), at=NOW + shift)


def test_identity_and_server_certificates_open_no_door(house: House) -> None:
    identity = house.authority.issue_member_identity(
        new_identity_key().public_key(), "brand", house.alliance_id, 3, NOW
    )
    server = house.authority.issue_server(new_tls_key().public_key(), "h", NOW)
    for certificate in (identity, server, house.authority.certificate):
        with pytest.raises(CertificateRefused):
            house.peer(certificate)


def test_the_alliance_in_the_name_counts(house: House) -> None:
    stray = house.authority.issue_member_tls(new_tls_key().public_key(), "brand", "0" * 32, 3, NOW)
    with pytest.raises(CertificateRefused, match="another alliance"):
        house.peer(stray)


def _signed_by_house(
    house: House, names: list[x509.GeneralName], common_names: list[str]
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn) for cn in common_names])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(house.authority.certificate.subject)
        .public_key(new_tls_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(house.authority.key, hashes.SHA256())
    )


@pytest.mark.parametrize(
    ("make_names", "common_names"),
    [
        (lambda a: [f"touchstone://{a}/member/0"], ["brand"]),
        (lambda a: [f"touchstone://{a}/member/01"], ["brand"]),
        (lambda a: [f"touchstone://{a}/member/1/2"], ["brand"]),
        (lambda a: [f"https://{a}/member/1"], ["brand"]),
        (lambda a: [f"touchstone://{a}/member/1", f"touchstone://{a}/member/2"], ["brand"]),
        (lambda a: [f"touchstone://{a}/member/1"], ["brand", "other"]),
        (lambda a: [f"touchstone://{a}/member/1"], ["Brand Name"]),
    ],
)
def test_a_name_in_another_form_is_refused(
    house: House, make_names: Callable[[str], list[str]], common_names: list[str]
) -> None:
    uris: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(uri) for uri in make_names(house.alliance_id)
    ]
    with pytest.raises(CertificateRefused, match="does not name a member"):
        certs.member_name(_signed_by_house(house, uris, common_names))


def test_unreadable_certificates_are_refused(house: House) -> None:
    pem = certs.to_pem(house.tls())
    for data in (b"", b"nonsense", pem + pem, pem[:100], b"x" * (MAX_CERTIFICATE_BYTES + 1)):
        with pytest.raises(CertificateRefused):
            certs.load_certificate(data)


def test_fingerprints_are_compared_in_one_form(house: House) -> None:
    shown = certs.fingerprint(house.authority.certificate)
    assert certs.alliance_id_of(house.authority.certificate) == shown.replace(":", "").lower()[:32]
    for text in (shown, shown.lower(), shown.replace(":", ""), f" SHA256:{shown}\n"):
        assert certs.normal_fingerprint(text) == shown
    for text in ("", "AB", shown + ":00", "Z" * 64):
        with pytest.raises(CertificateRefused):
            certs.normal_fingerprint(text)


def test_requests_prove_possession() -> None:
    tls, identity = new_tls_key(), new_identity_key()
    assert verify_tls_request(make_request(tls, "a")) == tls.public_key()
    assert verify_identity_request(make_request(identity, "a")) == identity.public_key()


def test_a_request_of_the_wrong_kind_or_altered_is_refused() -> None:
    tls, identity = make_request(new_tls_key(), "a"), make_request(new_identity_key(), "a")
    with pytest.raises(RequestRefused, match="P-256"):
        verify_tls_request(identity)
    with pytest.raises(RequestRefused, match="Ed25519"):
        verify_identity_request(tls)
    for data in (b"", tls[:200], b"x" * (MAX_CSR_BYTES + 1)):
        with pytest.raises(RequestRefused):
            verify_tls_request(data)


def test_a_request_for_somebody_elses_key_is_refused() -> None:
    """A request whose key was exchanged after signing carries no proof of possession."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    mine, theirs = new_identity_key(), new_identity_key()
    request = x509.load_pem_x509_csr(make_request(mine, "a"))
    raw = [key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) for key in (mine, theirs)]
    der = request.public_bytes(Encoding.DER).replace(raw[0], raw[1])
    forged = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)
    with pytest.raises(RequestRefused, match="not signed by its own key"):
        verify_identity_request(forged)


def test_a_connection_without_a_certificate_is_refused() -> None:
    from shared.errors import AuthError

    for context in ({}, {"x509_pem_cert": []}, {"x509_pem_cert": [b"a", b"b"]}):
        with pytest.raises(AuthError, match="no member certificate"):
            peer_pem(context)
    assert peer_pem({"x509_pem_cert": [b"pem"]}) == b"pem"
