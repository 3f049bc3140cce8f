"""Generates the Python code of ``alliance.v1`` beside its protos, or proves it fresh.

``python protos/generate.py`` writes, ``python protos/generate.py --check`` exits 1 when what is
checked in differs from what the protos say.
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
PACKAGE = Path("alliance/v1")
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(target: Path) -> dict[str, bytes]:
    """Compile every proto of the package into ``target``; return file name -> content.

    Raises:
        SystemExit: the compiler refused a proto; it has said why on stderr.
    """
    protos = sorted((ROOT / PACKAGE).glob("*.proto"))
    scripts = sysconfig.get_path("scripts")  # the mypy plugins are found by name on PATH
    os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    outputs = ("python", "grpc_python", "mypy", "mypy_grpc")
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT}",
            f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
            *(f"--{name}_out={target}" for name in outputs),
            *map(str, protos),
        ]
    )
    if status:
        raise SystemExit(status)
    return _generated(target / PACKAGE)


def _generated(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name.endswith(SUFFIXES)
    }


def check() -> list[str]:
    """Return the names of generated files that are missing, stale or without a proto."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = generate(Path(scratch))
    here = _generated(ROOT / PACKAGE)
    return sorted(name for name in fresh.keys() | here.keys() if fresh.get(name) != here.get(name))


def write() -> None:
    """Write the generated files beside the protos and remove those that have no proto."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = generate(Path(scratch))
    for name in _generated(ROOT / PACKAGE).keys() - fresh.keys():
        (ROOT / PACKAGE / name).unlink()
    for name, content in fresh.items():
        (ROOT / PACKAGE / name).write_bytes(content)


def main() -> int:
    """Parse the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when the code is stale")
    if not parser.parse_args().check:
        write()
        return 0
    stale = check()
    if stale:
        sys.stderr.write(f"error: stale generated code: {', '.join(stale)}\n")
        sys.stderr.write("hint: run `make protos` and commit the result\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
