"""Certificate signing requests (PKCS#10): a member's public keys, each signed by its own key."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

from shared.limits import MAX_CSR_BYTES
from shared.trust.errors import RequestRefused
from shared.trust.keys import PrivateKey


def make_request(key: PrivateKey, member_id: str) -> bytes:
    """Return a PEM signing request for ``key`` under the common name ``member_id``."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, member_id)])
    algorithm = hashes.SHA256() if isinstance(key, EllipticCurvePrivateKey) else None
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.PEM)


def _proven_key(pem: bytes) -> object:
    """Read the request's public key and check the proof that its sender holds the private one."""
    if len(pem) > MAX_CSR_BYTES:
        raise RequestRefused("the signing request is too large")
    try:
        request = x509.load_pem_x509_csr(pem)
        valid = request.is_signature_valid
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion) as error:
        raise RequestRefused("the signing request cannot be read") from error
    if not valid:
        raise RequestRefused("the signing request is not signed by its own key")
    return key


def verify_tls_request(pem: bytes) -> EllipticCurvePublicKey:
    """Return the P-256 key of a request; its subject is ignored, the authority sets the name.

    Raises:
        RequestRefused: unreadable, too large, another key type, or no proof of possession.
    """
    key = _proven_key(pem)
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise RequestRefused("the connection's key must be ECDSA on P-256")
    return key


def verify_identity_request(pem: bytes) -> Ed25519PublicKey:
    """Return the Ed25519 key of a request; its subject is ignored.

    Raises:
        RequestRefused: unreadable, too large, another key type, or no proof of possession.
    """
    key = _proven_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise RequestRefused("the identity key must be Ed25519")
    return key
