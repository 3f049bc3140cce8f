"""What a person may send to those who maintain this software: an allow-list, never a deny-list.

Everything in it is a number this module chose, a version, or a word from a closed list. No text of
a file, a log or an error is passed on: any of them may quote a name, a host, a path or a listing.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from participant.node.config import NodeConfig
from participant.node.daemon import LOG_FILE
from participant.node.keystore import connection_pair
from participant.node.policy import Policy, load_policy
from shared.clock import rfc3339
from shared.doctor.installation import versions
from shared.doctor.report import Report
from shared.errors import TouchstoneError, all_error_classes
from shared.trust.certificates import days_left
from shared.trust.names import as_ip

SCHEMA_VERSION = 1

LOG_TAIL_BYTES = 1024 * 1024
"""The end of the log that is looked at: some days of a node in trouble."""

_SYSTEMS = frozenset({"Linux", "Darwin", "Windows"})
_MACHINES = frozenset({"x86_64", "aarch64", "arm64", "AMD64"})
_LEVELS = frozenset({"debug", "info", "warning", "error", "critical"})


def bug_report(state_dir: Path, report: Report, now: datetime) -> dict[str, Any]:
    """Return the report, JSON-able.

    Args:
        state_dir: the member's state folder.
        report: what the doctor found; only names, states and codes of it are used.
        now: current time.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "created_at": rfc3339(now),
        "versions": versions("participant"),
        "system": _system(),
        "checks": [
            {"name": check.name, "status": check.status.value, "code": check.code}
            for check in report.checks
        ],
        "config": _config(state_dir),
        "policy": _policy(state_dir),
        "certificate_days_left": _days_left(state_dir, now),
        "log": log_summary(state_dir / LOG_FILE),
    }


def _system() -> dict[str, Any]:
    return {
        "system": _known(platform.system(), _SYSTEMS),
        "machine": _known(platform.machine(), _MACHINES),
        "processors": os.cpu_count() or 0,
    }


def _known(word: object, words: frozenset[str]) -> str:
    return word if isinstance(word, str) and word in words else "other"


def _config(state_dir: Path) -> dict[str, Any]:
    """Return the shape of ``node.toml``: kind of address, ports, a passphrase or not."""
    try:
        config = NodeConfig.load(state_dir)
    except TouchstoneError as error:
        return {"error": error.code}
    address = as_ip(config.coordinator.host)
    return {
        "host": "name" if address is None else f"ipv{address.version}",
        "port": config.coordinator.port,
        "enrolment_port": config.coordinator.enrolment_port,
        "keys_encrypted": bool(config.keys.passphrase_file),
    }


def _policy(state_dir: Path) -> dict[str, str]:
    """Return which rules differ from the default, not what they say."""
    try:
        policy = load_policy(state_dir / "policy.toml")
    except TouchstoneError as error:
        return {"error": error.code}
    return {
        name: "default" if getattr(policy, name) == field.get_default() else "changed"
        for name, field in Policy.model_fields.items()
    }


def _days_left(state_dir: Path, now: datetime) -> int | None:
    try:
        return int(days_left(connection_pair(state_dir).certificate, now))
    except (TouchstoneError, OSError):
        return None


def log_summary(path: Path) -> dict[str, Any]:
    """Count the log's lines by level and by error code; codes nobody knows count as ``other``."""
    levels: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    known = frozenset(cls.code for cls in all_error_classes())
    for line in _lines(path):
        levels[_known(line.get("level"), _LEVELS)] += 1
        if "code" in line:
            codes[_known(line["code"], known)] += 1
    return {"levels": dict(sorted(levels.items())), "codes": dict(sorted(codes.items()))}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            tail = file.read(LOG_TAIL_BYTES)
    except OSError:
        return
    for raw in tail.splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line
