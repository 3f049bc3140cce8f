"""The coordinator's database: tables, migrations, transactions and what is read and written."""

from coordinator.db.database import Database
from coordinator.db.unit import Unit

__all__ = ["Database", "Unit"]
