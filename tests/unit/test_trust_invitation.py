"""Invitation files, names and addresses."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.trust import names
from shared.trust.authority import found_authority
from shared.trust.certificates import fingerprint, to_pem
from shared.trust.errors import FingerprintMismatch
from shared.trust.invitation import (
    Invitation,
    decode_invitation,
    encode_invitation,
    new_token,
    read_invitation,
    token_hash,
    write_invitation,
)
from shared.trust.keys import new_tls_key

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _invitation(alliance: str = "Alliance") -> Invitation:
    ca = found_authority(new_tls_key(), alliance, NOW)
    return Invitation(
        alliance=alliance,
        member_id="brand-one",
        host="127.0.0.1",
        port=7443,
        enrolment_port=7444,
        expires_at="2026-03-04T00:00:00Z",
        ca_fingerprint=fingerprint(ca),
        ca_pem=to_pem(ca),
        token=new_token(),
    )


def test_an_invitation_survives_its_file(tmp_path: Path) -> None:
    invitation = _invitation('Quote " back \\ slash ✓')
    path = tmp_path / "t.toml"
    write_invitation(path, invitation)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_invitation(path) == invitation


def test_the_secret_is_neither_shown_nor_stored() -> None:
    invitation = _invitation()
    assert invitation.token.hex() not in repr(invitation)
    assert invitation.token.hex() not in token_hash(invitation.token)
    assert token_hash(new_token()) != token_hash(new_token())


def test_every_cut_of_the_file_is_refused_without_quoting_it() -> None:
    data = encode_invitation(_invitation())
    secret = _token_text(data)
    for length in range(0, len(data) - 5, 7):
        with pytest.raises(BadInput) as caught:
            decode_invitation(data[:length])
        assert secret not in caught.value.message + caught.value.hint


def _token_text(data: bytes) -> str:
    line = next(line for line in data.decode().splitlines() if line.startswith("token = "))
    return line.split('"')[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1", "version = 2"),
        ("version = 1", "version = 1\nextra = 1"),
        ("port = 7443", "port = 70000"),
        ("port = 7443", 'port = "7443"'),
        ('host = "127.0.0.1"', 'host = "a b"'),
        ('member_id = "brand-one"', 'member_id = "../etc"'),
    ],
)
def test_a_file_in_another_form_is_refused(old: str, new: str) -> None:
    text = encode_invitation(_invitation()).decode()
    with pytest.raises(BadInput):
        decode_invitation(text.replace(old, new, 1).encode())


def test_an_oversize_or_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_invitation(tmp_path / "none")
    (tmp_path / "big").write_bytes(b"#" * 20_000)
    with pytest.raises(BadInput, match="too large"):
        read_invitation(tmp_path / "big")


def test_the_fingerprint_is_checked_twice() -> None:
    invitation, other = _invitation(), _invitation()
    invitation.check_fingerprint()
    invitation.check_fingerprint(invitation.ca_fingerprint.lower())
    with pytest.raises(FingerprintMismatch):
        invitation.check_fingerprint(other.ca_fingerprint)
    with pytest.raises(FingerprintMismatch):
        replace(invitation, ca_pem=other.ca_pem).check_fingerprint()
    both = replace(invitation, ca_pem=other.ca_pem, ca_fingerprint=other.ca_fingerprint)
    with pytest.raises(FingerprintMismatch):
        both.check_fingerprint(invitation.ca_fingerprint)


@given(st.text(max_size=60))
def test_a_member_id_is_safe_in_a_path_and_a_certificate(text: str) -> None:
    try:
        name = names.check_member_id(text)
    except BadInput:
        return
    assert name == text
    assert 1 <= len(name) <= 40
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize("name", ["a", "brand-one", "0", "a" * 40])
def test_slugs_are_accepted(name: str) -> None:
    assert names.check_member_id(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a" * 41, "a/b", "ä", "a\n", "a b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput):
        names.check_member_id(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7443", ("127.0.0.1", 7443)),
        ("https://c.example.org:7443/", ("c.example.org", 7443)),
        ("[::1]:7443", ("::1", 7443)),
    ],
)
def test_addresses_are_read(text: str, expected: tuple[str, int]) -> None:
    assert names.parse_authority(text) == expected
    assert names.parse_authority(names.authority_of(*expected)) == expected


@pytest.mark.parametrize("text", ["", "host", "host:", ":7443", "host:0", "host:65535", "a b:1"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        names.parse_authority(text)


@pytest.mark.parametrize("name", ["", " a", "a" * 65, "a\nb", "a\x00"])
def test_an_alliances_name_is_one_printable_line(name: str) -> None:
    with pytest.raises(BadInput):
        names.check_alliance_name(name)
