"""What an examination found. A check never raises: whatever goes wrong in one is its finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from shared.errors import TouchstoneError


class Status(StrEnum):
    """How a check went; ``skipped`` was not tried, and its text says why."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at, in snake_case; stable.
        status: how it went.
        code: stable code of the cause, for reports that carry no text.
        text: the cause, for the person at this machine; it may name hosts and paths.
        hint: what to do.
    """

    name: str
    status: Status
    code: str
    text: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return JSON-able fields."""
        return {**asdict(self), "status": self.status.value}


def ok(name: str, text: str) -> Check:
    """Return a finding that all is well."""
    return Check(name, Status.OK, "ok", text)


def warn(name: str, code: str, text: str, hint: str = "") -> Check:
    """Return a finding that somebody should look at."""
    return Check(name, Status.WARN, code, text, hint)


def fail(name: str, code: str, text: str, hint: str = "") -> Check:
    """Return a finding that keeps the node from its work, or puts it at risk."""
    return Check(name, Status.FAIL, code, text, hint)


def skipped(name: str, text: str) -> Check:
    """Return a finding about something that was not tried."""
    return Check(name, Status.SKIPPED, "skipped", text)


Examine = Callable[[], Check | Iterable[Check]]
"""Looks at something; may raise whatever the thing itself raises."""


def attempt(name: str, examine: Examine) -> list[Check]:
    """Return what ``examine`` finds.

    An error of any kind becomes a failed check called ``name``, after what was found before it.
    """
    found: list[Check] = []
    try:
        result = examine()
        found.extend([result] if isinstance(result, Check) else result)
    except TouchstoneError as error:
        found.append(fail(name, error.code, error.message, error.hint))
    except OSError as error:
        text = f"{error.strerror or 'input/output error'}: {error.filename or ''}".rstrip(": ")
        found.append(fail(name, "os_error", text, "check the folder's owner and permissions"))
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the later ones
        text = f"the check itself ended with an unexpected {type(error).__name__}"
        found.append(fail(name, "unexpected", text, "this is a bug; please report it"))
    return found


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which they were made."""

    checks: tuple[Check, ...]

    def count(self, status: Status) -> int:
        """Return how many checks went like this."""
        return sum(check.status is status for check in self.checks)

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return not self.count(Status.FAIL)

    def summary(self) -> list[str]:
        """Return "12 ok" and the like, for every way a check went."""
        counts = ((status, self.count(status)) for status in Status)
        return [f"{count} {status.value}" for status, count in counts if count]

    def text(self) -> str:
        """Return lines for a person."""
        lines = []
        for check in self.checks:
            lines.append(f"{check.status.value:<8}{check.name:<24}{check.text}")
            if check.hint:
                lines.append(f"{'':<32}hint: {check.hint}")
        return "\n".join([*lines, ", ".join(self.summary())])

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return {
            "healthy": self.healthy,
            "counts": {status.value: self.count(status) for status in Status},
            "checks": [check.as_dict() for check in self.checks],
        }


def examined(
    checks: Mapping[str, Examine], progress: Callable[[str], None] = lambda _name: None
) -> Report:
    """Make every check in order, whatever the others find.

    Args:
        checks: name -> what looks.
        progress: told the name of each check that begins.
    """
    found: list[Check] = []
    for name, check in checks.items():
        progress(name)
        found += attempt(name, check)
    return Report(tuple(found))
