"""The run manifest: one encoding, one meaning, one signer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.encoding import Writer
from shared.errors import MalformedMessage, VerificationError
from shared.trust.errors import ManifestExpired
from shared.trust.manifest import (
    MAX_EPOCHS,
    EvaluationTerms,
    RunManifest,
    TrainingTerms,
    sign_manifest,
    verify_manifest,
)
from shared.trust.roster import Roster, RosterEntry
from tests.support.manifests import NOW, a_manifest, entries

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
SIGNED = sign_manifest(a_manifest(coordinator_key=PUBLIC), KEY)


def test_encoding_and_decoding_are_inverse():
    manifest = a_manifest()
    assert RunManifest.decode(manifest.encode()) == manifest


def test_a_promise_to_keep_vectors_is_one_signed_byte_and_without_it_nothing_changes():
    """Manifests that members and coordinators kept from before there was one read as ever."""
    without, promising = a_manifest().encode(), a_manifest(keep_masked=True).encode()
    assert promising == without + b"\1"
    assert RunManifest.decode(promising) == a_manifest(keep_masked=True)
    assert not RunManifest.decode(without).keep_masked
    for other in (b"\0", b"\2", b"\1\1", b"\1\0"):
        with pytest.raises(MalformedMessage):
            RunManifest.decode(without + other)


def test_a_signed_manifest_verifies():
    verified = verify_manifest(SIGNED, PUBLIC, NOW)
    assert verified.manifest == a_manifest(coordinator_key=PUBLIC)
    assert verified.hash == verified.manifest.hash()


def test_every_flipped_byte_is_refused():
    for at in range(len(SIGNED)):
        changed = bytearray(SIGNED)
        changed[at] ^= 1
        with pytest.raises(VerificationError):
            verify_manifest(bytes(changed), PUBLIC, NOW)


def test_every_truncation_is_refused():
    for length in range(0, len(SIGNED), 7):
        with pytest.raises(MalformedMessage):
            verify_manifest(SIGNED[:length], PUBLIC, NOW)
    with pytest.raises(MalformedMessage):
        verify_manifest(SIGNED + b"\0", PUBLIC, NOW)


def test_another_signer_and_another_named_key_are_refused():
    other = Ed25519PrivateKey.generate()
    with pytest.raises(VerificationError):
        verify_manifest(SIGNED, other.public_key().public_bytes_raw(), NOW)
    lying = sign_manifest(a_manifest(coordinator_key=b"c" * 32), KEY)
    with pytest.raises(VerificationError, match="names another"):
        verify_manifest(lying, PUBLIC, NOW)


def test_an_expired_manifest_is_refused():
    with pytest.raises(ManifestExpired):
        verify_manifest(SIGNED, PUBLIC, NOW + timedelta(hours=72))


@pytest.mark.parametrize(
    "changes",
    [
        {"members": (RosterEntry(0, "c", b"k" * 32), *entries(4))},
        {"members": (*entries(4), entries(4)[0])},
        {"members": tuple(reversed(entries(5)))},
        {"kind": "person"},
        {"rounds": 0},
        {"expires_at": NOW},
        {"training": TrainingTerms(weighting="by-count")},
        {"purpose": ""},
        {"purpose": "x" * 121},
        {"purpose": " padded"},
        {"purpose": "fine\x1b[2K\x1b[1Gother"},
        {"purpose": "two\nlines"},
    ],
)
def test_a_manifest_that_makes_no_sense_cannot_be_made(changes):
    with pytest.raises(MalformedMessage):
        a_manifest(**changes)


@pytest.mark.parametrize(
    ("rows", "weight"),
    [(5000, 1.0), (2000, 1.0), (1999, 0.5), (600, 0.25), (100, 0.125), (0, 0.125)],
)
def test_bucketed_weights_say_a_bucket_and_nothing_else(rows, weight):
    assert TrainingTerms(weighting="bucketed").weight(rows) == weight
    assert TrainingTerms().weight(rows) == 1.0


@pytest.mark.parametrize("name", ["", "Brand", "x\x1b[2K\x1b[1Gspoof", "a b", "-a", "x" * 41])
def test_a_name_nobody_can_be_invited_under_is_on_no_roster_and_in_no_manifest(name):
    """Decoded as well as made: what `peers accept` shows comes from the coordinator."""
    signed = Roster(b"a" * 16, 3, entries(3)).encode()
    writer = Writer().text("m2").done()
    forged = signed.replace(writer, Writer().text(name).done())
    assert forged != signed
    with pytest.raises(MalformedMessage, match="cannot name a member"):
        Roster.decode(forged)
    manifest = a_manifest().encode()
    with pytest.raises(MalformedMessage, match="cannot name a member"):
        RunManifest.decode(manifest.replace(writer, Writer().text(name).done()))


def test_a_roster_survives_its_encoding_and_refuses_doubles():
    roster = Roster(b"a" * 16, 3, entries(3))
    assert Roster.decode(roster.encode()) == roster
    for broken in (
        (*entries(2), replace(entries(3)[2], public_key=entries(1)[0].public_key)),
        (*entries(2), replace(entries(3)[2], member_id="m1")),
        (entries(2)[1], entries(2)[0]),
    ):
        with pytest.raises(MalformedMessage):
            Roster(b"a" * 16, 3, broken)


@pytest.mark.parametrize("changes", [{"every": 0}, {"epsilon_milli": 0}])
def test_evaluations_that_cannot_be_are_refused(changes):
    with pytest.raises(MalformedMessage):
        EvaluationTerms(**changes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"local_epochs": 0},
        {"local_epochs": MAX_EPOCHS + 1},
        {"batch_size": 0},
        {"learning_rate_milli": 0},
        {"full_weight_rows": 0},
    ],
)
def test_training_that_nobody_can_do_is_no_manifest(wrong) -> None:
    with pytest.raises(MalformedMessage):
        a_manifest(training=TrainingTerms(**wrong))
