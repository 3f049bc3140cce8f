"""Write the known-answer files of the secure sum; see README.md beside this script.

Usage: python tests/vectors/secagg/generate.py

``shamir.json`` and ``keys.json`` come from a second, plain implementation in this file (stdlib
hmac and hashlib, AES in ECB mode over counters, polynomials by powers): it shares no line with
the package. ``round.json`` is a recording of the package itself: ML-KEM offers no seed for
encapsulation, so what can be replayed begins where set-up ends.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

PRIME = 2**256 - 189
DOMAIN = b"touchstone/secsum/v1/"


def stream(label: str) -> Callable[[int], int]:
    """Return a reproducible source of integers below n: SHA-512 of label and counter, mod n."""
    counter = 0

    def below(n: int) -> int:
        nonlocal counter
        counter += 1
        return int.from_bytes(hashlib.sha512(f"{label}/{counter}".encode()).digest(), "big") % n

    return below


def shamir() -> dict[str, Any]:
    cases = []
    for label, points, threshold in (
        ("three of five", [1, 2, 3, 4, 5], 3),
        ("gaps", [2, 7, 64, 4095], 4),
        ("two of two", [1, 4294967295], 2),
    ):
        below = stream(label)
        secret = below(PRIME)
        coefficients = [below(PRIME) for _ in range(threshold - 1)]
        high_first = coefficients
        shares = [
            (secret + sum(c * pow(x, threshold - 1 - i, PRIME) for i, c in enumerate(high_first)))
            % PRIME
            for x in points
        ]
        cases.append(
            {
                "label": label,
                "threshold": threshold,
                "points": points,
                "secret": f"{secret:064x}",
                "coefficients_high_first": [f"{c:064x}" for c in coefficients],
                "shares": [f"{share:064x}" for share in shares],
            }
        )
    invalid = [
        {"label": "point zero", "points": [0, 1, 2], "threshold": 2, "error": "ValueError"},
        {"label": "repeated point", "points": [1, 1, 2], "threshold": 2, "error": "ValueError"},
        {"label": "too few points", "points": [1, 2], "threshold": 3, "error": "ValueError"},
    ]
    elements = [
        {"bytes": f"{PRIME - 1:064x}", "error": ""},
        {"bytes": f"{PRIME:064x}", "error": "ValueError"},
        {"bytes": "ff" * 32, "error": "ValueError"},
        {"bytes": "00" * 31, "error": "ValueError"},
        {"bytes": "00" * 33, "error": "ValueError"},
    ]
    return {"prime": f"{PRIME:064x}", "cases": cases, "invalid": invalid, "elements": elements}


def blob(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def hkdf(secret: bytes, salt: bytes, label: bytes, context: bytes, *indices: int) -> bytes:
    numbers = struct.pack(f">{len(indices) + 1}I", len(indices), *indices)
    info = blob(DOMAIN + b"key/" + label) + blob(context) + numbers
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def ctr(key: bytes, words: int) -> list[str]:
    blocks = b"".join(i.to_bytes(16, "big") for i in range(2, 2 + (words + 1) // 2))
    data = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks)  # noqa: S305
    return [f"{word:016x}" for word in struct.unpack(f"<{words}Q", data[: 8 * words])]


def sha(label: bytes, *parts: bytes) -> str:
    return hashlib.sha256(blob(DOMAIN + label) + b"".join(map(blob, parts))).hexdigest()


def keys() -> dict[str, Any]:
    below = stream("keys")
    rho, b = below(PRIME), below(PRIME)
    t1, t1c, t2 = (hashlib.sha256(label).digest() for label in (b"T1", b"T1c", b"T2"))
    kappa = hkdf(rho.to_bytes(32, "big"), b"", b"pair", b"", 7)
    self_key = hkdf(b.to_bytes(32, "big"), t2, b"self", b"", 3)
    b_leaf = hashlib.sha256(blob(DOMAIN + b"leaf/b") + b.to_bytes(32, "big")).digest()
    rho_leaf = hashlib.sha256(blob(DOMAIN + b"leaf/rho") + rho.to_bytes(32, "big")).digest()
    return {
        "inputs": {
            "rho": f"{rho:064x}",
            "b": f"{b:064x}",
            "t1": t1.hex(),
            "t1c": t1c.hex(),
            "t2": t2.hex(),
            "x25519_secret": "11" * 32,
            "kem_secret": "22" * 32,
        },
        "pair_seed_for_7": kappa.hex(),
        "recovery_key": hkdf(rho.to_bytes(32, "big"), b"", b"rec", t1c).hex(),
        "self_mask_key_of_3": self_key.hex(),
        "pair_mask_key_3_7": hkdf(kappa, t2, b"mask", b"", 3, 7).hex(),
        "box_key_3_to_7": hkdf(b"\x11" * 32 + b"\x22" * 32, t1, b"box", b"", 3, 7).hex(),
        "commit_b": sha(b"commit/b", b.to_bytes(32, "big")),
        "commit_pair": sha(b"commit/pair", kappa),
        "b_leaf": b_leaf.hex(),
        "rho_leaf": rho_leaf.hex(),
        "share_hash": hashlib.sha256(blob(DOMAIN + b"share") + b_leaf + rho_leaf).hexdigest(),
        "self_mask_words": ctr(self_key, 9),
    }


def grouping() -> dict[str, Any]:
    """Derive the drawing of groups by hand: commitments, the list's digest, the groups."""
    root = b"touchstone/group-drawing/v1/"

    def digest(label: bytes, *parts: bytes) -> bytes:
        return hashlib.sha256(blob(root + label) + b"".join(map(blob, parts))).digest()

    def u32s(*values: int) -> bytes:
        return b"".join(value.to_bytes(4, "big") for value in values)

    roster, number, count = hashlib.sha256(b"roster").digest(), 2, 3
    nonces = {i: hashlib.sha256(b"nonce %d" % i).digest() for i in (1, 2, 3, 5, 8, 13, 21, 34)}
    commitments = {i: digest(b"commitment", roster, u32s(number, i), n) for i, n in nonces.items()}
    listed = blob(root + b"reveal") + roster + u32s(number, count, len(nonces))
    listed += b"".join(u32s(i) + value for i, value in commitments.items())
    seed = blob(root + b"seed") + roster + u32s(number, count)
    seed += b"".join(u32s(i) + nonce for i, nonce in nonces.items())
    order = blob(DOMAIN + b"group-order") + digest(b"order", seed)
    ranked = sorted(nonces, key=lambda i: hashlib.sha256(order + u32s(i)).digest())
    return {
        "roster_hash": roster.hex(),
        "number": number,
        "count": count,
        "nonces": {str(i): nonce.hex() for i, nonce in nonces.items()},
        "commitments": {str(i): value.hex() for i, value in commitments.items()},
        "list_digest": digest(b"list", listed).hex(),
        "groups": [sorted(ranked[place::count]) for place in range(count)],
    }


def lanes() -> dict[str, Any]:
    """Pack two updates by hand, one coordinate at a time, and open their sum."""

    def single(value: float) -> float:
        """Round to float32. A float64 sum or product of two of them, rounded, is IEEE's own."""
        return struct.unpack("<f", struct.pack("<f", value))[0]

    def packed(update: list[float], weight: float, key: bytes) -> list[int]:
        words = -(-len(update) // 3)
        draws = iter(struct.unpack(f"<{len(update)}H", zeros(key, 2 * len(update))))
        # The highest lane is drawn first: lane j of word i is coordinate j * words + i.
        dither = {
            at: next(draws) / 65536
            for j in (2, 1, 0)
            for at in range(len(update))
            if at // words == j
        }
        out = [0] * words
        for at, value in enumerate(update):
            scaled = single(single(value) * single(weight * top / clip))
            step = min(max(math.floor(single(scaled + dither[at])), -top), top)
            out[at % words] |= (step + half) << (21 * (at // words))
        return out

    def zeros(key: bytes, count: int) -> bytes:
        blocks = b"".join(i.to_bytes(16, "big") for i in range(-(-count // 16)))
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        return cipher.encryptor().update(blocks)[:count]

    bits, clip = 16, 0.25
    half, top = 1 << (bits - 1), (1 << (bits - 1)) - 1
    updates = [
        [single(value) for value in (0.0, 0.1, -0.1, 0.25, -0.25, 0.3, -9.0, 1e-6, -1e-6, 0.2)],
        [single(value) for value in (-0.2, 0.01, 0.07, 0.0, 0.125, -0.3, 9.0, -0.04, 0.09, 0.0)],
    ]
    weights, keys = [1.0, 0.5], [bytes(range(32)), bytes(range(32, 64))]
    vectors = [packed(*one) for one in zip(updates, weights, keys, strict=True)]
    total = [sum(words) for words in zip(*vectors, strict=True)]
    words, mask = len(total), (1 << 21) - 1
    mean = [
        single(((total[at % words] >> 21 * (at // words) & mask) - 2 * half) / (top / clip * 1.5))
        for at in range(len(updates[0]))
    ]
    return {
        "value_bits": bits,
        "clip_coord": clip,
        "updates": updates,
        "weights": weights,
        "dither_keys": [key.hex() for key in keys],
        "packed": [[f"{word:016x}" for word in vector] for vector in vectors],
        "mean": mean,
    }


def rounds() -> dict[str, Any]:
    from tests.support.secagg import MODEL, World, losing, make_terms

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    recorded = []
    for step in ("never", "advertise", "share", "confirm", "masked", "unmask"):
        world = World(make_terms(5, slots=1), fault=losing({2: step}))
        if not world.setup().usable:
            raise SystemExit("the recorded set-up failed")
        for index in world.coordinator.confirmed:
            world.nodes[index].member._me.state.answers.clear()
        case: dict[str, Any] = {
            "lost": 0 if step == "never" else 2,
            "at": step,
            "confirmed": world.coordinator.confirmed,
            "setup": text(world.coordinator.dump_setup()),
            "members": {i: text(world.nodes[i].member.dump()) for i in world.coordinator.confirmed},
        }
        case["masked_request"] = text(world.collect(1))
        case["plain"] = {
            i: [f"{word:016x}" for word in world.nodes[i].plain[1, 1, 0]]
            for i in world.coordinator.uploaded
        }
        case["masked"] = {i: text(world.log["masked", i]) for i in world.coordinator.uploaded}
        world.coordinator.close_masked()
        case["unmask_request"] = text(world.coordinator.unmask_request())
        result = world.unmask()
        case["answers"] = {
            f"{kind} {i}": text(reply)
            for (kind, i), reply in world.log.items()
            if kind in ("unmask", "release")
        }
        case["t2"], case["bitmap"] = result.t2.hex(), result.bitmap.hex()
        case["survivors"] = result.survivors
        case["sum"] = [f"{word:016x}" for word in result.vector]
        recorded.append(case)
    return {"model": MODEL.hex(), "rounds": recorded}


def write(name: str, value: dict[str, Any]) -> None:
    text = json.dumps({"generator": "generate.py", **value}, indent=1, sort_keys=True)
    (HERE / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write("shamir.json", shamir())
    write("keys.json", keys())
    write("groups.json", grouping())
    write("lanes.json", lanes())
    write("round.json", rounds())
