"""The closed vocabulary of the audit log; :class:`coordinator.db.audit.AuditLog` writes it."""
