"""`policy init|show|check|set`: what this node may take part in."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from participant.cli.options import DryRun
from participant.node import policy as rules
from participant.node.policy_edit import edited, parse_value
from participant.node.policy_notes import notes
from shared.console import JsonFlag, emit, out, say
from shared.errors import BadInput
from shared.files import write_atomic

policy_app = typer.Typer(help="What this node may take part in.", no_args_is_help=True)
DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")


def register(app: typer.Typer) -> None:
    """Add the noun to the command."""
    app.add_typer(policy_app, name="policy")


@policy_app.command("init")
def init(folder: Path = DirOption, dry_run: DryRun = False, as_json: bool = JsonFlag) -> None:
    """Write the commented policy that refuses everything, unless there is one."""
    path = folder / rules.POLICY_FILE
    existed = path.exists()
    if not dry_run:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        rules.write_default(path)
    done = "already there" if existed else "would be written" if dry_run else "written"
    emit(
        {"path": str(path), "already_there": existed, "dry_run": dry_run},
        as_json=as_json,
        text=f"{done}: {path}",
    )


@policy_app.command("show")
def show(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """Print the rules in force, and whether each is written in the file or a default."""
    path = folder / rules.POLICY_FILE
    written = rules.values_in(rules.policy_text(path))
    in_force = rules.checked(written).model_dump(mode="json")
    default = rules.Policy().model_dump(mode="json")
    data = [
        {
            "rule": name,
            "value": value,
            "origin": "file" if name in written else "default",
            "default": default[name],
        }
        for name, value in in_force.items()
    ]
    digest = rules.policy_digest(path)
    emit(
        {"path": str(path), "sha256": digest, "rules": data},
        as_json=as_json,
        text=lambda: _print_rules(data, digest),
    )


def _print_rules(data: list[dict[str, Any]], digest: str) -> None:
    for item in data:
        default = "" if item["value"] == item["default"] else f", default {_toml(item['default'])}"
        # TOML has no word for nothing: such a line is as the file would have it, a comment.
        mark = "# " if item["value"] is None else ""
        line = f"{mark}{item['rule']} = {_toml(item['value'])}"
        out.print(f"{line:<52}  # {item['origin']}{default}", markup=False)
    out.print(f"sha256 of {rules.POLICY_FILE}: {digest}", markup=False)


def _toml(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


@policy_app.command("check")
def check(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """Validate the policy file, and name what a security officer should have meant.

    Exit code 3 when it is wrong. Notes do not make it wrong.
    """
    path = folder / rules.POLICY_FILE
    found = notes(folder, rules.load_policy(path))
    for note in found:
        say(f"note: {note}")
    emit(
        {"valid": True, "sha256": rules.policy_digest(path), "notes": found},
        as_json=as_json,
        text="the policy is valid",
    )


@policy_app.command("set")
def set_rules(
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY VALUE [KEY VALUE ...]", help="Rules and their new values."),
    ] = None,
    folder: Path = DirOption,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", help="Leave this rule to its default; repeat.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the change, write nothing.")
    ] = False,
    as_json: bool = JsonFlag,
) -> None:
    """Change rules in the policy file, all or none, and keep its comments.

    A list is written with commas: `policy set allowed_purposes one,two`. The node reads the file
    before every answer, so the change is in force at once. Exit code 2 for a rule or value that
    cannot be, 3 when the file as a whole would not be valid.
    """
    path = folder / rules.POLICY_FILE
    before = rules.policy_text(path)
    values = {key: parse_value(key, text) for key, text in _pairs(pairs or [])}
    dropped = [_known(key) for key in unset or []]
    if both := sorted(values.keys() & set(dropped)):
        raise BadInput(f"{both[0]} is set and unset at once")
    if not values and not dropped:
        raise BadInput("name a rule and its value", hint="`policy show` lists them")
    after = edited(before, values, dropped)
    changed = after != before
    if changed and not dry_run:
        _write(folder, path, after, sorted({*values, *dropped}))
    emit(
        {"changed": changed, "dry_run": dry_run, "set": values, "unset": dropped},
        as_json=as_json,
        text=_difference(before, after) if changed else "already so",
    )


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    if len(words) % 2:
        raise BadInput("each rule needs a value", hint='quote a value with blanks in it: "a b"')
    keys = words[0::2]
    if len(set(keys)) != len(keys):
        raise BadInput("a rule is named twice")
    return list(zip(keys, words[1::2], strict=True))


def _known(key: str) -> str:
    if key not in rules.Policy.model_fields:
        raise BadInput(f"the policy has no rule {key[:40]!r}", hint="`policy show` lists them")
    return key


def _write(folder: Path, path: Path, text: str, changed: list[str]) -> None:
    from participant.cli.store import audit_log

    with audit_log(folder) as audit:
        digests = {
            "sha256_before": rules.policy_digest(path),
            "sha256_after": hashlib.sha256(text.encode()).hexdigest(),
        }
        audit.append("policy.set", {"rules": changed, **digests})
    write_atomic(path, text.encode(), mode=0o600)


def _difference(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))
