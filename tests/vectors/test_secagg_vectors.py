"""Known answers: the standards' vectors for what we call, our own for what we built on it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cryptography_vectors
import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.secagg import Coordinator, Member, Quantiser, RunGuard, keys
from shared.secagg import stream as stream_module
from shared.secagg.quantise import pack, unpack_mean
from shared.secagg.shamir import PRIME, deal, decode_element, interpolate, lagrange_at_zero
from shared.secagg.stream import apply_masks, keystream
from shared.trust.grouping import Drawing, commitment
from tests.support.secagg import identity, limits_for

HERE = Path(__file__).parent / "secagg"


def load(name: str) -> Any:
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def standard(path: str) -> Iterator[dict[str, str]]:
    """Read ``NAME = value`` records, each begun by COUNT."""
    record: dict[str, str] = {}
    with cryptography_vectors.open_vector_file(path, "r") as file:
        for line in file:
            match = re.match(r"(\w+)\s*=\s*(\w*)", line)
            if not match:
                continue
            name, value = match[1].lower(), match[2]
            if name == "count" and record:
                yield record
                record = {}
            record[name] = value
    yield record


def hexed(record: dict[str, str], *names: str) -> list[bytes]:
    return [bytes.fromhex(record.get(name, "")) for name in names]


def test_hkdf_sha256_is_rfc_5869() -> None:
    records = list(standard("KDF/rfc-5869-HKDF-SHA256.txt"))
    assert len(records) >= 3
    for record in records:
        ikm, salt, info, okm = hexed(record, "ikm", "salt", "info", "okm")
        assert HKDF(hashes.SHA256(), int(record["l"]), salt, info).derive(ikm) == okm


def test_x25519_is_rfc_7748() -> None:
    records = [r for r in standard("asymmetric/X25519/rfc7748.txt") if "input_scalar" in r]
    assert len(records) >= 2
    for record in records:
        scalar, u, output = hexed(record, "input_scalar", "input_u", "output_u")
        assert keys.agree(scalar, u) == output


def test_ml_kem_768_decapsulates_the_nist_vectors() -> None:
    records = list(standard("asymmetric/MLKEM/kat_MLKEM_768.rsp"))[:50]
    assert len(records) == 50
    for record in records:
        d, z, public, ciphertext, secret = hexed(record, "d", "z", "pk", "ct", "ss")
        bad_ciphertext, bad_secret = hexed(record, "ct_n", "ss_n")
        own = MLKEM768PrivateKey.from_seed_bytes(d + z)
        assert own.public_key().public_bytes_raw() == public
        assert keys.decapsulate(d + z, ciphertext) == secret
        assert keys.decapsulate(d + z, bad_ciphertext) == bad_secret


def test_chacha20_poly1305_is_rfc_8439() -> None:
    good = 0
    for record in standard("ciphers/ChaCha20Poly1305/openssl.txt"):
        if "result" in record:
            continue
        key, nonce, aad, tag, plain, cipher = hexed(
            record, "key", "iv", "aad", "tag", "plaintext", "ciphertext"
        )
        assert ChaCha20Poly1305(key).encrypt(nonce, plain, aad) == cipher + tag
        if nonce == bytes(12):
            assert keys.encrypt(key, plain, aad) == cipher + tag
        good += 1
    assert good >= 2


def test_aes_256_ctr_is_rfc_3686() -> None:
    for record in standard("ciphers/AES/CTR/aes-256-ctr.txt"):
        key, counter, plain, cipher = hexed(record, "key", "iv", "plaintext", "ciphertext")
        stream = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
        buffer = bytearray(len(plain) + 15)
        assert stream.update_into(plain, buffer) == len(cipher)
        assert bytes(buffer[: len(cipher)]) == cipher


def test_ed25519_is_rfc_8032() -> None:
    with cryptography_vectors.open_vector_file("asymmetric/Ed25519/sign.input", "r") as file:
        lines = file.read().splitlines()[:100]
    for line in lines:
        secret, _, message, signed = line.split(":")[:4]
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)[:32])
        assert key.sign(bytes.fromhex(message)) == bytes.fromhex(signed)[:64]


def _replaying(values: list[int]) -> Callable[[int], int]:
    left = iter(values)
    return lambda _: next(left)


def test_shamir_known_answers() -> None:
    data = load("shamir.json")
    assert int(data["prime"], 16) == PRIME
    for case in data["cases"]:
        drawn = [int(c, 16) for c in case["coefficients_high_first"]]
        secret, shares = int(case["secret"], 16), [int(s, 16) for s in case["shares"]]
        dealt = deal(secret, case["points"], case["threshold"], _replaying(drawn))
        assert dealt == shares
        t = case["threshold"]
        for points, part in (
            (case["points"][:t], shares[:t]),
            (case["points"][-t:], shares[-t:]),
        ):
            assert interpolate(lagrange_at_zero(points), part) == secret
    for case in data["invalid"]:
        with pytest.raises(ValueError):
            deal(1, case["points"], case["threshold"])
    for element in data["elements"]:
        raw = bytes.fromhex(element["bytes"])
        if element["error"]:
            with pytest.raises(ValueError):
                decode_element(raw)
        else:
            assert decode_element(raw) == int(element["bytes"], 16)


def test_key_schedule_known_answers() -> None:
    data = load("keys.json")
    raw = {name: bytes.fromhex(value) for name, value in data["inputs"].items()}
    rho, b = decode_element(raw["rho"]), decode_element(raw["b"])
    seed = keys.pair_seed(rho, 7)
    own = keys.self_mask_key(b, raw["t2"], 3)
    b_leaf, rho_leaf = keys.share_leaf("b", raw["b"]), keys.share_leaf("rho", raw["rho"])
    found = {
        "pair_seed_for_7": seed,
        "recovery_key": keys.recovery_key(rho, raw["t1c"]),
        "self_mask_key_of_3": own,
        "pair_mask_key_3_7": keys.pair_mask_key(seed, raw["t2"], 3, 7),
        "box_key_3_to_7": keys.box_key(raw["x25519_secret"], raw["kem_secret"], raw["t1"], 3, 7),
        "commit_b": keys.commit_self(b),
        "commit_pair": keys.commit_pair(seed),
        "b_leaf": b_leaf,
        "rho_leaf": rho_leaf,
        "share_hash": keys.share_hash(b_leaf, rho_leaf),
    }
    assert {name: value.hex() for name, value in found.items()} == {n: data[n] for n in found}
    words = data["self_mask_words"]
    assert [f"{int(word):016x}" for word in keystream(own, len(words))] == words


def test_lanes_are_packed_and_opened_as_by_hand() -> None:
    data = load("lanes.json")
    quantiser = Quantiser(data["value_bits"], data["clip_coord"], bucketed=True)
    updates = [np.array(update, dtype=np.float32) for update in data["updates"]]
    raw = zip(updates, data["weights"], map(bytes.fromhex, data["dither_keys"]), strict=True)
    vectors = [pack(update, weight, quantiser, dither_key=key) for update, weight, key in raw]
    assert [[f"{int(word):016x}" for word in one] for one in vectors] == data["packed"]
    total = sum(vectors, start=np.zeros_like(vectors[0]))
    mean = unpack_mean(total, updates[0].size, 2, sum(data["weights"]), quantiser)
    assert mean.tolist() == data["mean"]
    assert np.abs(mean[1] - (0.1 + 0.005) / 1.5) < 2 / quantiser.scale


@pytest.mark.parametrize("vector_aes", [True, False])
def test_a_mask_is_the_counter_mode_of_the_standard_whichever_way_it_is_made(
    monkeypatch: pytest.MonkeyPatch, vector_aes: bool
) -> None:
    monkeypatch.setattr(stream_module, "_has_vector_aes", lambda: vector_aes)
    key, other = bytes(range(32)), bytes(32)
    words = 3 * 512 * 1024 + 7
    whole = keystream(key, words)
    stream = Cipher(algorithms.AES(key), modes.CTR((2).to_bytes(16, "big"))).encryptor()
    assert whole.tobytes() == stream.update(bytes(8 * words))
    sealed = AESGCM(key).encrypt(bytes(12), bytes(8 * words), None)
    assert whole.tobytes() == sealed[:-16]
    apply_masks(whole, [other], [key, other])
    assert not whole.any()


@pytest.mark.parametrize("case", load("round.json")["rounds"], ids=lambda case: case["at"])
def test_a_recorded_round_replays_byte_for_byte(case: dict[str, Any]) -> None:
    model = bytes.fromhex(load("round.json")["model"])

    def raw(text: str) -> bytes:
        return base64.b64decode(text)

    desk = Coordinator.load(signing_key=identity(0), setup=raw(case["setup"]))
    assert list(desk.confirmed) == case["confirmed"]
    members = {}
    for name, state in case["members"].items():
        guard = RunGuard(desk.terms.run_id, session_ordinal=1)
        members[int(name)] = Member.load(
            raw(state), signing_key=identity(int(name)), limits=limits_for(desk.terms), guard=guard
        )
    request = raw(case["masked_request"])
    opened = members[1].open_round(request, model)
    assert (opened.round, opened.slot, opened.t2.hex()) == (1, 0, case["t2"])
    again = desk.open_round(
        1, opened.participants, opened.model_sha256, opened.config, opened.words
    )
    assert again == request
    for name, words in case["plain"].items():
        index = int(name)
        members[index].open_round(request, model)
        upload = members[index].mask(np.array([int(word, 16) for word in words], dtype=np.uint64))
        wire = len(upload.header).to_bytes(4, "big") + upload.header + upload.vector.tobytes()
        assert wire == raw(case["masked"][name])
        desk.on_masked(index, upload.header, upload.vector)
    assert list(desk.close_masked()) == case["survivors"]
    assert desk.unmask_request() == raw(case["unmask_request"])
    for step, take in (("unmask", desk.on_unmask), ("release", desk.on_release)):
        answers = {k: v for k, v in case["answers"].items() if k.startswith(step)}
        if step == "release" and answers:
            request = desk.release_request()
        for name, answer in sorted(answers.items()):
            index = int(name.split()[1])
            asked = request if step == "release" else desk.unmask_request()
            reply = members[index].handle(asked)
            assert reply == raw(answer)
            take(index, reply)
    result = desk.finish_round()
    assert result.bitmap.hex() == case["bitmap"]
    assert [f"{int(word):016x}" for word in result.vector] == case["sum"]
    plain = sum(np.array([int(w, 16) for w in words]) for words in case["plain"].values())
    assert [int(word) for word in result.vector] == [int(word) for word in plain]


def test_groups_follow_from_the_nonces() -> None:
    case = load("groups.json")
    roster, indices = bytes.fromhex(case["roster_hash"]), sorted(map(int, case["nonces"]))
    nonces = tuple(bytes.fromhex(case["nonces"][str(index)]) for index in indices)
    drawing = Drawing(case["number"], case["count"], nonces)
    for index, nonce in zip(indices, nonces, strict=True):
        expected = bytes.fromhex(case["commitments"][str(index)])
        assert commitment(roster, drawing.number, index, nonce) == expected
    assert drawing.list_digest(roster, indices).hex() == case["list_digest"]
    assert [list(group) for group in drawing.groups(roster, indices)] == case["groups"]
