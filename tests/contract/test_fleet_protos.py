"""The generated protocol code is what the protos say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PROTOS = Path(__file__).resolve().parents[2] / "protos"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "generate.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_is_checked_in_is_fresh() -> None:
    result = check(PROTOS)
    assert result.returncode == 0, result.stderr


def test_a_changed_proto_and_a_stray_file_are_noticed_and_repaired(tmp_path: Path) -> None:
    folder = tmp_path / "protos"
    shutil.copytree(PROTOS, folder)
    package = folder / "alliance" / "v1"
    with (package / "fleet.proto").open("a") as file:
        file.write("\nmessage Novelty { uint32 value = 1; }\n")
    (package / "orphan_pb2.py").write_text("stale = True\n")
    result = check(folder)
    assert result.returncode == 1
    assert "fleet_pb2.py" in result.stderr
    assert "orphan_pb2.py" in result.stderr
    assert "make protos" in result.stderr
    subprocess.run([sys.executable, str(folder / "generate.py")], check=True, capture_output=True)
    assert check(folder).returncode == 0
    assert not (package / "orphan_pb2.py").exists()
