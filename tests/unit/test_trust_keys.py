"""Keys on disk: modes, encryption, damage."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import StorageError, VerificationError
from shared.limits import MAX_KEY_FILE_BYTES
from shared.trust import keys
from shared.trust.errors import KeyUnreadable


def test_a_key_file_is_pkcs8_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    made = keys.ensure_tls_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert keys.ensure_tls_key(path).private_numbers() == made.private_numbers()


def test_the_umask_cannot_widen_and_a_folder_is_narrowed(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o755)
    assert stat.S_IMODE(keys.private_folder(folder).stat().st_mode) == 0o700


def test_a_passphrase_encrypts_and_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    key = keys.ensure_identity_key(path, b"correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    loaded = keys.load_identity_key(path, b"correct horse")
    assert loaded.private_bytes_raw() == key.private_bytes_raw()
    for wrong in (None, b"battery"):
        with pytest.raises(KeyUnreadable):
            keys.load_identity_key(path, wrong)


def test_a_passphrase_for_a_plain_key_is_refused(tmp_path: Path) -> None:
    keys.ensure_identity_key(tmp_path / "k.pem")
    with pytest.raises(KeyUnreadable, match="do not go together"):
        keys.load_identity_key(tmp_path / "k.pem", b"needless")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "k.pem"
    keys.ensure_tls_key(path)
    path.chmod(mode)
    with pytest.raises(KeyUnreadable, match="read by others"):
        keys.load_tls_key(path)


def test_missing_damaged_and_oversize_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    with pytest.raises(KeyUnreadable, match="missing"):
        keys.load_tls_key(path)
    whole = keys.encode_key(keys.new_tls_key())
    for data in (b"", whole[: len(whole) // 2], b"-" * (MAX_KEY_FILE_BYTES + 1)):
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(KeyUnreadable):
            keys.load_tls_key(path)


def test_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    keys.write_key(path, keys.new_identity_key())
    with pytest.raises(KeyUnreadable, match="P-256"):
        keys.load_tls_key(path)
    other_curve = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(
        other_curve.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(KeyUnreadable, match="P-256"):
        keys.load_tls_key(path)
    with pytest.raises(KeyUnreadable, match="Ed25519"):
        keys.load_identity_key(path)


def test_a_passphrase_file_gives_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"first line\nsecond\n")
    path.chmod(0o600)
    assert keys.read_passphrase(path) == b"first line"
    assert keys.read_passphrase(None) is None
    path.chmod(0o644)
    with pytest.raises(KeyUnreadable, match="read by others"):
        keys.read_passphrase(path)
    path.chmod(0o600)
    path.write_bytes(b"\nsecond\n")
    with pytest.raises(KeyUnreadable, match="empty"):
        keys.read_passphrase(path)


def test_public_keys_travel_as_hex() -> None:
    key = keys.new_identity_key()
    public = keys.public_from_hex(keys.public_hex(key))
    assert public == key.public_key()
    for text in ("", "zz" * 32, "00" * 31):
        with pytest.raises(VerificationError):
            keys.public_from_hex(text)


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(StorageError):
        keys.private_folder(tmp_path / "f")
