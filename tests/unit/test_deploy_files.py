"""What the unit files and the Containerfile promise, and that it is what the how-tos show."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli.main import app as coordinator_app
from participant.cli.main import app as participant_app
from shared import disk
from shared.errors import Exit, StorageError
from shared.scratch import make_scratch
from tests.support.docs import ROOT
from tests.support.waiting import PATIENCE_S

SYSTEMD = ROOT / "deploy" / "systemd"
CONTAINERFILE = (ROOT / "deploy" / "container" / "Containerfile").read_text("utf-8")
UNITS = {
    "touchstone-participant": ("touchstone", "touchstone-participant up"),
    "touchstone-coordinator": ("touchstone-coordinator", "touchstone-coordinator serve"),
}
TWICE = {"Environment", "SystemCallFilter"}
each_unit = pytest.mark.parametrize("name", UNITS)


def settings(name: str) -> dict[str, list[str]]:
    """Return a unit's settings; one that is given again keeps all its values."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / f"{name}.service").read_text("utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@each_unit
def test_a_unit_runs_as_its_own_user_and_writes_its_state_folder_alone(name: str) -> None:
    user, command = UNITS[name]
    unit = settings(name)
    assert unit["User"] == unit["Group"] == unit["StateDirectory"] == [user]
    assert unit["ExecStart"] == [f"/opt/touchstone/.venv/bin/{command} --dir ${{STATE_DIRECTORY}}"]
    expected = {
        "ProtectSystem": "strict",
        "ProtectHome": "true",
        "PrivateTmp": "true",
        "NoNewPrivileges": "true",
        "MemoryDenyWriteExecute": "true",
        "CapabilityBoundingSet": "",
        "StateDirectoryMode": "0700",
        "UMask": "0077",
        "KillSignal": "SIGTERM",
        "LimitCORE": "0",
    }
    assert {key: unit.get(key) for key in expected} == {k: [v] for k, v in expected.items()}
    assert not {"ReadWritePaths", "CacheDirectory", "LogsDirectory"} & unit.keys()
    everybodys = {"/run", "/tmp", "/var/tmp", "/dev/shm", "-/dev/mqueue"}  # noqa: S108
    assert set(unit["ReadOnlyPaths"][0].split()) == everybodys
    assert f"TMPDIR=/var/lib/{user}/tmp" in unit["Environment"]  # noqa: S108 - its own folder


@each_unit
def test_what_does_not_get_better_is_not_tried_again(name: str) -> None:
    codes = {int(code) for code in settings(name)["RestartPreventExitStatus"][0].split()}
    assert Exit.CONFIG in codes
    assert codes <= {Exit.CONFIG, Exit.AUTH}
    assert settings(name)["Restart"] == ["on-failure"]


@each_unit
def test_a_full_disk_ends_no_service_that_would_not_be_started_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit leaves a service down that ends as other commands do on a full disk."""
    prevented = settings(name)["RestartPreventExitStatus"][0].split()
    assert str(int(StorageError.exit_code)) in prevented
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(disk, "disk_fault", lambda *_: full)
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return len(waited) < 3

    monkeypatch.setattr(disk, "_pause", wait)
    verb = UNITS[name][1].split()[1]
    app = {"up": participant_app, "serve": coordinator_app}[verb]
    done = CliRunner().invoke(app, [verb, "--dir", str(tmp_path)])
    assert done.exit_code == 0
    assert len(waited) == 3
    assert list(tmp_path.iterdir()) == []


OWN = {"Description", "ExecStart", "User", "Group", "StateDirectory", "RestartPreventExitStatus"}


def test_both_units_confine_in_the_same_way() -> None:
    """A setting that is misspelt, or forgotten, in one of them is a difference."""
    participant, coordinator = (settings(name) for name in UNITS)
    assert participant.keys() == coordinator.keys()
    shared = participant.keys() - OWN - {"Environment"}
    assert {key: participant[key] for key in shared} == {key: coordinator[key] for key in shared}
    assert not [key for key, values in participant.items() if len(values) > 1 and key not in TWICE]


@each_unit
def test_a_unit_has_no_setting_that_systemd_would_ignore(name: str, tmp_path: Path) -> None:
    text = (SYSTEMD / f"{name}.service").read_text("utf-8")
    assert re.findall(r"^\[(.*)\]$", text, re.MULTILINE) == ["Unit", "Service", "Install"]
    for line in text.splitlines():
        assert re.fullmatch(r"|#.*|\[\w+\]|[A-Z]\w+=\S.*|(CapabilityBoundingSet|Ambient\w+)=", line)
    if shutil.which("systemd-analyze") is None:
        return
    unit = shutil.copy(SYSTEMD / f"{name}.service", tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if name in line]
    assert [line for line in said if "is not executable" not in line] == []


def stages() -> dict[str, str]:
    """Return the Containerfile's stages, comments and line breaks removed."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    found = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    return {part.split("\n")[0].split(" AS ")[1]: part for part in found}


def _copied() -> Iterator[str]:
    for line in stages()["source"].splitlines():
        if line.startswith("COPY "):
            yield from line.split()[1:-1]


@pytest.mark.parametrize("side", ["participant", "coordinator"])
def test_an_image_is_built_in_stages_and_runs_as_nobody_in_particular(side: str) -> None:
    built = stages()
    assert "\nARG BASE=docker.io/library/python:3.11-slim\n" in CONTAINERFILE.split("FROM")[0]
    assert built["source"].startswith("$BASE AS ")
    assert built["runtime"].startswith("$BASE AS ")
    assert built[side].startswith("runtime AS ")
    assert f"COPY --from=build-{side} /opt/touchstone /opt/touchstone" in built[side]
    assert f'ENTRYPOINT ["touchstone-{side}"]' in built[side]
    assert "\nUSER 10001:10001\n" in built["runtime"]
    assert "\nVOLUME /var/lib/touchstone\n" in built["runtime"]
    assert "TMPDIR=/var/lib/touchstone/tmp" in built["runtime"]
    assert "USER" not in built[side]
    assert "pip" not in built["runtime"] + built[side]


def test_an_image_is_built_from_what_the_package_is_made_of() -> None:
    copied = set(_copied())
    assert {"pyproject.toml", "setup.py", "README.md", "protos", "shared"} <= copied
    assert {"coordinator", "participant"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_the_range_of_torch_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (torch,) = [one for one in project["optional-dependencies"]["participant"] if "torch" in one]
    assert f"'{torch}'" in CONTAINERFILE


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("run-under-systemd.md", [f"deploy/systemd/{name}.service" for name in UNITS]),
        ("run-in-a-container.md", ["deploy/container/Containerfile"]),
    ],
)
def test_the_how_tos_use_the_files_as_they_are(page: str, names: list[str]) -> None:
    text = (ROOT / "docs" / "how-to" / page).read_text("utf-8")
    assert all(name in text for name in names)
    if page == "run-in-a-container.md":
        (confine,) = re.findall(r"^confine='(.*)'$", text, re.MULTILINE)
        for option in (
            "--read-only", "--read-only-tmpfs=false", "--ipc none", "--cap-drop all",
            "--security-opt no-new-privileges", "--user 10001:10001",
        ):  # fmt: skip
            assert f" {option} " in f" {confine} "
        started = re.findall(r"podman run .*", text)
        assert len(started) == 4
        assert all(" $confine " in line for line in started)


class TestScratch:
    """The folder that TMPDIR names is made at the first start, and nothing else is."""

    def test_it_is_made_for_the_owner_only(self, tmp_path: Path) -> None:
        make_scratch({"TMPDIR": str(tmp_path / "tmp")})
        assert (tmp_path / "tmp").stat().st_mode & 0o777 == 0o700

    def test_it_is_left_alone_when_it_is_there(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        make_scratch({"TMPDIR": str(tmp_path)})
        assert tmp_path.stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize("named", ["", "/nonexistent/folder/tmp"])
    def test_nothing_is_invented(self, named: str) -> None:
        make_scratch({"TMPDIR": named})
        assert not Path("/nonexistent").exists()
