"""Every step of a deployment, in the node's audit log and its deployment table.

A decision is written in one transaction, after the model has been switched. A process killed in
between leaves an activation that the log does not know: :func:`catch_up` writes it down at the
next step, so the log is late at worst, never silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlmodel import select

from participant.deployment.state import Activation, ActiveState
from participant.store import Store
from participant.store.models import DeploymentRow
from participant.store.registers import Action

ACTIVATION_KEY = "activation_id"


def record(
    store: Store,
    release_id: str,
    action: Action,
    reason: str,
    metrics: Mapping[str, Any],
    **identity: str | int,
) -> None:
    """Write one decision down, as a row and as an audit event, both or neither.

    The audit event names release, action and reason, and ``identity``, what else tells which
    release it was; the figures stay in the row.

    Raises:
        StorageError: the store cannot be written.
    """
    with store.database.transaction() as session:
        session.add(
            DeploymentRow(
                release_id=release_id,
                action=action,
                reason=reason,
                metrics=dict(metrics),
                at=store.clock.now(),
            )
        )
        body = {"release_id": release_id, "reason": reason, **identity}
        store.audit.append(f"model.{action}", body, session=session)


def record_activation(store: Store, activation: Activation) -> None:
    """Write an activation down; its id goes into the row's metrics."""
    metrics = {**activation.metrics, ACTIVATION_KEY: activation.activation_id}
    record(
        store,
        activation.release_id,
        activation.action,
        activation.reason,
        metrics,
        sequence=activation.sequence,
        sha256=activation.sha256,
    )


def catch_up(store: Store, state: ActiveState) -> bool:
    """Write down the activation that a killed process could not; return whether there was one."""
    if state.active is None or _known(store, state.active):
        return False
    record_activation(store, state.active)
    return True


def _known(store: Store, activation: Activation) -> bool:
    query = select(DeploymentRow).where(DeploymentRow.release_id == activation.release_id)
    with store.database.reading() as session:
        rows = session.exec(query).all()
    return any(row.metrics.get(ACTIVATION_KEY) == activation.activation_id for row in rows)
