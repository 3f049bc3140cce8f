"""Applies a column mapping to batches of a file: canonical rows out, rejects beside them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from participant.ingest import parsing
from participant.ingest.checks import check
from participant.ingest.failures import Failures
from participant.ingest.mapping import ColumnRule, Mapping, SignalRule
from participant.ingest.parsing import Parsed, Spelling
from participant.ingest.rejects import Reject
from shared.domain.schemas import SCHEMAS, TIME
from shared.domain.vocabulary import MAX_SIGNALS, Kind
from shared.errors import ConfigError

Parser = Callable[[pl.Series], Parsed]


@dataclass(frozen=True, slots=True)
class _Step:
    """One output: its name, the file's column (None for a constant) and how to read it."""

    target: str
    source: str | None
    parse: Parser
    constant: pl.Series | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A mapping resolved against the columns of one file.

    Attributes:
        kind: Which records come out.
        needed: Columns of the file that are read.
        ignored: Columns of the file that the mapping does not mention.
        columns: Steps that make canonical columns.
        signals: Steps that make signals.
    """

    kind: Kind
    needed: tuple[str, ...]
    ignored: tuple[str, ...]
    columns: tuple[_Step, ...]
    signals: tuple[_Step, ...]


def make_plan(mapping: Mapping, columns: MappingType[str, pl.DataType]) -> Plan:
    """Resolve ``mapping`` against a file's columns.

    Raises:
        ConfigError: the file lacks a column that the mapping names, has two that it cannot tell
            apart, or a constant is not a value of its column.
    """
    if len(mapping.signals) > MAX_SIGNALS:
        raise ConfigError(f"the mapping has more than {MAX_SIGNALS} signals")
    found = _Finder(columns)
    steps = [_column_step(mapping, name, rule, found) for name, rule in mapping.columns.items()]
    signals = [_signal_step(mapping, name, rule, found) for name, rule in mapping.signals.items()]
    kept = [step for step in (*steps, *signals) if step is not None]
    needed = tuple(dict.fromkeys(step.source for step in kept if step.source is not None))
    dropped = {found.optional(name) for name in mapping.drop}
    return Plan(
        kind=mapping.kind,
        needed=needed,
        ignored=tuple(name for name in columns if name not in {*needed, *dropped}),
        columns=tuple(step for step in steps if step is not None),
        signals=tuple(step for step in signals if step is not None),
    )


def convert(
    plan: Plan, batch: pl.DataFrame, rows: NDArray[np.int64]
) -> tuple[pl.DataFrame, list[Reject]]:
    """Return the batch's valid rows in the canonical schema, and what was wrong with the others.

    Args:
        plan: From :func:`make_plan`.
        batch: Some rows with at least the plan's needed columns.
        rows: int64[n], the rows' numbers in the file.
    """
    failures = Failures(batch.height)
    schema = SCHEMAS[plan.kind]
    made = {step.target: _run(step, batch, failures, step.target) for step in plan.columns}
    if plan.signals:
        made["signals"] = _encode_signals(plan, batch, failures)
    for name, dtype in schema.items():
        if name not in made:
            made[name] = pl.Series(name, [None], dtype=dtype).new_from_index(0, batch.height)
    frame = pl.DataFrame([made[name].cast(dtype).alias(name) for name, dtype in schema.items()])
    check(plan.kind, frame, failures)
    rejects = failures.rejects(rows)
    return (frame.filter(failures.passed) if rejects else frame), rejects


def _encode_signals(plan: Plan, batch: pl.DataFrame, failures: Failures) -> pl.Series:
    values = [
        _run(step, batch, failures, f"signals.{step.target}").alias(step.target)
        for step in plan.signals
    ]
    return pl.DataFrame(values).to_struct("signals").struct.json_encode()


def _run(step: _Step, batch: pl.DataFrame, failures: Failures, name: str) -> pl.Series:
    if step.constant is not None:
        return step.constant.new_from_index(0, batch.height)
    parsed = step.parse(batch[str(step.source)])
    code, what = _COMPLAINTS[_root(step.parse)]
    failures.flag(parsed.bad, code, name, f"{name} is not {what}")
    return parsed.values


class _Finder:
    """Finds a file's columns by name; exports are careless about spaces, so runs count as one."""

    def __init__(self, columns: MappingType[str, pl.DataType]) -> None:
        self.columns = columns
        self._names: dict[str, list[str]] = {}
        for name in columns:
            self._names.setdefault(" ".join(name.split()), []).append(name)

    def optional(self, name: str) -> str | None:
        """Return the file's column called ``name``, or None."""
        if name in self.columns:
            return name
        same = self._names.get(" ".join(name.split()), [])
        if len(same) > 1:
            raise ConfigError(f"the file has {len(same)} columns {name!r} that differ in spaces")
        return same[0] if same else None

    def required(self, name: str) -> str:
        """Return the file's column called ``name``."""
        found = self.optional(name)
        if found is None:
            raise ConfigError(
                f"the file has no column {name!r}",
                hint="correct the mapping, or mark the column as optional in it",
            )
        return found


def _column_step(mapping: Mapping, target: str, rule: ColumnRule, found: _Finder) -> _Step | None:
    how = Spelling.of(rule, mapping.defaults)
    parse = _column_parser(target, SCHEMAS[mapping.kind][target], rule, how)
    if rule.source is None:
        return _Step(target, None, parse, _constant(target, rule, parse))
    source = found.optional(rule.source) if rule.optional else found.required(rule.source)
    if source is None:
        return None
    _refuse_nested(source, found.columns[source], target)
    return _Step(target, source, parse)


def _column_parser(target: str, dtype: pl.DataType, rule: ColumnRule, how: Spelling) -> Parser:
    if rule.values is not None:
        return partial(parsing.mapped, words=rule.values, how=how)
    if rule.extract == "host":
        return partial(parsing.host, how=how)
    if target == "signals":
        return partial(parsing.json_text, how=how)
    if dtype == pl.List(pl.String):
        return partial(parsing.hashes, how=how)
    if dtype == TIME:
        return partial(parsing.time, how=how)
    if dtype.is_float():
        return partial(parsing.number, how=how)
    return partial(parsing.whole if dtype.is_integer() else parsing.text, how=how)


def _signal_step(mapping: Mapping, name: str, rule: SignalRule, found: _Finder) -> _Step | None:
    how = Spelling.of(rule, mapping.defaults)
    wanted = rule.source or name
    source = found.optional(wanted) if rule.optional else found.required(wanted)
    if source is None:
        return None
    _refuse_nested(source, found.columns[source], name)
    if rule.values is not None:
        return _Step(name, source, partial(parsing.mapped, words=rule.values, how=how))
    parse = parsing.number if rule.type == "number" else parsing.text
    return _Step(name, source, partial(parse, how=how))


def _constant(target: str, rule: ColumnRule, parse: Parser) -> pl.Series:
    parsed = parse(pl.Series(target, [rule.constant]))
    if parsed.bad.any():
        raise ConfigError(f"the constant of {target!r} is not a value of that column")
    return parsed.values


def _refuse_nested(source: str, dtype: pl.DataType, target: str) -> None:
    allowed = {"image_hashes": pl.List(pl.String), "signals": pl.Struct}.get(target)
    if dtype.is_nested() and (allowed is None or dtype != allowed):
        raise ConfigError(f"column {source!r} holds lists or objects and cannot become {target!r}")
    if dtype == pl.Binary:
        raise ConfigError(f"column {source!r} holds bytes and cannot become {target!r}")


def _root(parse: Parser) -> Callable[..., Parsed]:
    root: Callable[..., Parsed] = parse.func if isinstance(parse, partial) else parse
    return root


_COMPLAINTS: dict[Callable[..., Parsed], tuple[str, str]] = {
    parsing.text: ("bad_text", "text"),
    parsing.host: ("bad_host", "a URL or host name"),
    parsing.number: ("bad_number", "a number"),
    parsing.whole: ("bad_number", "a whole number"),
    parsing.time: ("bad_date", "a date in the mapping's patterns"),
    parsing.mapped: ("bad_value", "one of the mapping's words"),
    parsing.hashes: ("bad_text", "a list of hashes"),
    parsing.json_text: ("bad_signals", "a JSON object"),
}
"""What a value that was not understood is called, by the function that tried."""
