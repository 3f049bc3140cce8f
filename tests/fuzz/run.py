"""Fuzz one decoder with atheris: python tests/fuzz/run.py TARGET [libFuzzer options] [CORPUS].

``python tests/fuzz/run.py --list`` names the targets. What is found is written to
``crash-<sha1>`` in the working folder; the same command with that file repeats it.
``make fuzz`` runs every target for a while (``SECONDS`` each).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protos")]

import atheris  # noqa: E402

with atheris.instrument_imports(include=["shared", "coordinator.rounds", "participant"]):
    from tests.support.decoders import targets

MAX_INPUT = 1 << 14
"""Longest input: above the largest example that structure can be learned from."""


def main() -> None:
    """Run libFuzzer on the target that the first argument names."""
    known = targets()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        sys.stdout.write("\n".join(known) + "\n")
        sys.exit(0 if sys.argv[1:] == ["--list"] else 2)
    name, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as corpus:
        for number, example in enumerate(known[name].examples):
            (Path(corpus) / f"example-{number}").write_bytes(example)
        arguments = [sys.argv[0], f"-max_len={MAX_INPUT}", *options, corpus]
        atheris.Setup(arguments, lambda data: known[name](data) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
