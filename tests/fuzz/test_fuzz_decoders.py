"""A short run over every decoder: valid messages, mutated; only typed errors, bounded memory."""

from __future__ import annotations

import base64
import importlib.util
import random
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.decoders import OVERHEAD, SLACK, Target, targets
from tests.support.waiting import PATIENCE_S

RUN = Path(__file__).parent / "run.py"
MUTANTS = 300
COUNTS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
NAMES = sorted(targets())


def mutants(example: bytes, others: tuple[bytes, ...], seed: int) -> list[bytes]:
    """Return reproducible mutants: flips, cuts, insertions, exchanged numbers, spliced examples."""
    draw = random.Random(seed)
    found = [b"", example[:-1], example + b"\0", bytes(len(example))]
    while len(found) < MUTANTS:
        data = bytearray(example)
        for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
            at = draw.randrange(len(data) + 1)
            kind = draw.randrange(6)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            elif kind == 1:
                del data[at : at + draw.randrange(1, 40)]
            elif kind == 2:
                data[at:at] = draw.randbytes(draw.randrange(1, 40))
            elif kind == 3:
                data[at : at + 4] = struct.pack(">I", draw.choice(COUNTS))
            elif kind == 4:
                other = draw.choice(others)
                data[at:] = other[draw.randrange(len(other)) :]
            else:
                data[at : at + 1] = bytes([draw.randrange(256)])
        found.append(bytes(data))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_reads_what_is_valid(name: str) -> None:
    target = targets()[name]
    assert all(target(example) for example in target.examples)


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_raises_typed_errors_and_keeps_its_memory(name: str) -> None:
    target = targets()[name]
    others = tuple(example for other in targets().values() for example in other.examples)
    refused = 0
    for number, example in enumerate(target.examples):
        for mutant in mutants(example, others, seed=number):
            refused += not target(mutant)
    assert refused, "no mutant was refused: this decoder checks nothing"


@pytest.mark.parametrize("name", NAMES)
def test_a_short_message_cannot_ask_for_much_memory(name: str) -> None:
    """Every number in the example, announced as the largest that its field holds."""
    target = targets()[name]
    for example in target.examples:
        for at in range(0, min(len(example), 600) - 3, 3):
            greedy = example[:at] + b"\xff\xff\xff\xff" + example[at + 4 :]
            assert target.peak(greedy) < OVERHEAD * len(greedy) + SLACK


@pytest.mark.parametrize("name", [name for name in NAMES if targets()[name].encode])
def test_no_other_byte_anywhere_reads_as_the_same_value(name: str) -> None:
    """Flags and orders: the target itself compares what was read with its one encoding."""
    target = targets()[name]
    for example in target.examples:
        for at in range(max(0, len(example) - 1500), len(example)):
            for change in (1, 2, 0x80):
                target(example[:at] + bytes([example[at] ^ change]) + example[at + 1 :])


@pytest.mark.parametrize("name", ["tls-request", "identity-request", "invitation"])
def test_an_x509_version_that_does_not_exist_is_refused(name: str) -> None:
    """The library raises an error of its own for it, which is no ValueError."""
    target = targets()[name]
    head, body, tail = re.split(
        r"(?<=-----\n)|(?=-----END)", target.examples[0].decode(), maxsplit=2
    )
    der = base64.b64decode(body)
    old, new = (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x0a")
    if old not in der:
        old, new = b"\x02\x01\x00", b"\x02\x01\x0f"
    changed = base64.encodebytes(der.replace(old, new, 1)).decode()
    assert target(f"{head}{body}{tail}".encode())
    assert not target(f"{head}{changed}{tail}".encode())


def test_a_defect_in_a_decoder_would_be_noticed() -> None:
    with pytest.raises(IndexError):
        Target(lambda data: data[3], (b"abcd",))(b"abc")
    with pytest.raises(AssertionError):
        Target(lambda data: data.strip(), (b"a",), lambda value: value)(b" a")
    greedy = Target(lambda data: bytearray(64 << 20), (b"a",))
    assert greedy.peak(b"a") > OVERHEAD + SLACK


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is for Linux only")
@pytest.mark.parametrize("name", ["envelope", "deliveries", "manifest", "fleet-frames"])
def test_atheris_finds_nothing_in_a_few_thousand_runs(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), name, "-runs=4000", "-seed=1", "-print_final_stats=1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stat::number_of_executed_units" in done.stderr
