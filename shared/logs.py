"""JSON lines in a file of the state folder; people read stderr instead.

Events carry ids, counts, sizes and error codes. Records, message contents, keys and tokens do not
belong in a log, and neither does the text of somebody else's exception, which may quote them.
"""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog
from structlog.typing import Processor

from shared.files import storage_error

MAX_LOG_BYTES = 10 * 1024 * 1024
"""One log file; with its predecessors 60 MB, months of a busy node."""

KEPT_LOGS = 5

_SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def log_to(path: Path, level: int = logging.INFO) -> None:
    """Send this process's log, ours and the libraries', to ``path`` (mode 0600) as JSON lines.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        path.touch(mode=0o600)
        handler = RotatingFileHandler(
            path, maxBytes=MAX_LOG_BYTES, backupCount=KEPT_LOGS, encoding="utf-8"
        )
    except OSError as error:
        raise storage_error(error, path) from error
    handler.setFormatter(_formatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # A line that a full disk does not take is lost; a traceback for each of them on stderr would
    # help nobody, and what fails because of the disk says so itself.
    logging.raiseExceptions = False
    _flower_joins_in()
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def _formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )


def _flower_joins_in() -> None:
    """Flower writes to stderr through handlers of its own; let it use the file instead."""
    flower = logging.getLogger("flwr")
    flower.handlers.clear()
    flower.propagate = True
    flower.setLevel(logging.WARNING)
