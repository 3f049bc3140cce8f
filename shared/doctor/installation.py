"""Is what is installed here what this version was tested with, and does it keep quiet?"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from shared.doctor.report import Check, fail, ok
from shared.fleet.environment import QUIET

PACKAGE = "touchstone"


@dataclass(frozen=True)
class Installed:
    """A library: its version, empty if it is missing, and the range that this version allows."""

    name: str
    version: str
    allowed: SpecifierSet

    @property
    def fits(self) -> bool:
        """Whether it is there and in range."""
        return bool(self.version) and self.allowed.contains(self.version, prereleases=True)


def libraries(extra: str) -> list[Installed]:
    """Return what ``touchstone[extra]`` needs, as this installation's own metadata says."""
    needed = [Requirement(line) for line in requires(PACKAGE) or ()]
    wanted = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return [Installed(one.name, _version(one.name), one.specifier) for one in wanted]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def check_python() -> Check:
    """Check the interpreter against the range of this version."""
    found, allowed = platform.python_version(), metadata(PACKAGE)["Requires-Python"] or ""
    if not SpecifierSet(allowed).contains(found, prereleases=True):
        return fail(
            "python",
            "python_version",
            f"Python {found}, but this version needs {allowed}",
            "make a virtual environment with that version",
        )
    return ok("python", f"Python {found}")


def check_packages(extra: str) -> Iterator[Check]:
    """Check every library; one finding for all that fit, one for each that does not."""
    found = libraries(extra)
    fitting = ", ".join(f"{one.name} {one.version}" for one in found if one.fits)
    own = f"{PACKAGE} {version(PACKAGE)}"
    if all(one.fits for one in found):
        yield ok("packages", f"{own} with {fitting}")
    for one in found:
        if not one.fits:
            state = one.version or "missing"
            yield fail(
                "packages",
                "package_version",
                f"{one.name} is {state}; {own} was tested with {one.allowed}",
                f"pip install '{PACKAGE}[{extra}]' puts it right",
            )


def check_flower() -> Check:
    """Check that Flower neither reports usage nor asks for updates in processes of ours.

    Asks Flower itself, besides the environment: the switch counts only if it was set in time.
    """
    loud = [name for name, quiet in QUIET.items() if os.environ.get(name) != quiet]
    if not loud and not _telemetry_is_off():
        loud = ["FLWR_TELEMETRY_ENABLED"]
    if loud:
        return fail(
            "flower",
            "flower_telemetry",
            f"Flower may call home: {', '.join(loud)} is not set as it should be",
            "start both sides by their own commands, which set it first",
        )
    return ok("flower", "Flower's telemetry and update check are off")


def _telemetry_is_off() -> bool:
    from shared.fleet.internals import telemetry_switch

    return telemetry_switch() == QUIET["FLWR_TELEMETRY_ENABLED"]


_VERSION = re.compile(r"[0-9A-Za-z.+!-]{1,40}")


def versions(extra: str) -> dict[str, str]:
    """Return versions by name, for reports that leave this machine."""
    found = {one.name: one.version for one in libraries(extra)}
    found |= {PACKAGE: version(PACKAGE), "python": platform.python_version()}
    return {name: text for name, text in found.items() if _VERSION.fullmatch(text)}
