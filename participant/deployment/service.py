"""Deciding about models: deploy a release, activate by hand, compare, roll back.

The order within every change: the model's files are on disk and verified, then ``active.json``
is replaced by one rename, then the log is written. A process killed anywhere leaves the old
model running or the new one; what it could not write down is written at the next step.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from participant.deployment import log
from participant.deployment.acceptance import Reason
from participant.deployment.active import MODELS, LoadedModel, load_activation
from participant.deployment.candidate import Candidate
from participant.deployment.evidence import (
    Evidence,
    Judged,
    TrainingSets,
    figures,
    kind_of_records,
    training_sets,
)
from participant.deployment.fetch import FetchedRelease, fetch_release
from participant.deployment.folder import exclusive
from participant.deployment.head import write_head
from participant.deployment.past import past_of
from participant.deployment.rule import rule_of
from participant.deployment.state import (
    Activation,
    ActiveState,
    HeadRef,
    pinnable,
    read_state,
    write_state,
)
from participant.node.registry_client import ChannelFactory
from participant.store import Store
from shared.clock import Clock, SystemClock, rfc3339
from shared.errors import NotFound, VerificationError
from shared.model.layout import ModelSpec

Decision = Literal["activated", "kept", "activated_local", "already_active", "already_judged"]


@dataclass(frozen=True)
class DeploymentOutcome:
    """What was decided about a release; never leaves the member.

    Attributes:
        decision: what happened.
        reason: stable reason code, see :class:`Reason`.
        metrics: the local figures it rests on.
        release_id: hex of the release, or ``local``.
        calibrated: whether what runs now has a calibration of its own.
        head: setting of the personal head on what runs now, None without one.
    """

    decision: Decision
    reason: str
    metrics: dict[str, Any] = field(default_factory=dict)
    release_id: str = ""
    calibrated: bool = False
    head: str | None = None


class Deployer:
    """Models of one state folder; safe against other processes of the same node.

    Args:
        state_dir: the member's state folder.
        clock: stamps decisions.
        sets: the member's records; read from its store by default.
    """

    def __init__(
        self, state_dir: Path, *, clock: Clock | None = None, sets: TrainingSets | None = None
    ) -> None:
        self._dir = state_dir
        self._models = state_dir / MODELS
        self._clock = clock or SystemClock()
        self._given_sets = sets

    def deploy(
        self,
        release_id: bytes,
        factory: ChannelFactory | None,
        *,
        run_id: bytes | None = None,
    ) -> DeploymentOutcome:
        """Fetch, verify and judge a release, and let it run if the acceptance rule holds.

        A release is judged once, however often this is called, and only if its number is above
        that of every release judged before. While what runs is pinned, it is judged all the same,
        and kept back.

        Args:
            release_id: 16 bytes.
            factory: opens a channel to the coordinator; None forbids the network.
            run_id: when given, the run it must be the release of.

        Raises:
            VerificationError: bundle or transcript is refused; so is a release that is not newer
                than every one that ran or was judged here. The refusal is in the audit log.
            NotFound, NetworkError, StorageError: it could not be had or written.
        """
        with exclusive(self._dir, self._clock) as store:
            state = read_state(self._models)
            if state.active is not None and state.active.release_id == release_id.hex():
                return _already(state.active)
            past = past_of(store)
            if release_id.hex() in past.judged:
                again = Reason.ALREADY_JUDGED.value
                return DeploymentOutcome("already_judged", again, {}, release_id.hex())
            fetched = self._fetch(
                store, state, release_id, factory, run_id=run_id, above=past.highest
            )
            return self._decide(store, state, fetched)

    def activate(
        self,
        release_id: bytes,
        factory: ChannelFactory | None = None,
        *,
        personal: bool = True,
    ) -> DeploymentOutcome:
        """Let a release run because the operator says so; it must verify and be newer.

        A pin does not stand against it, and stays: what runs then is pinned.

        Args:
            release_id: 16 bytes.
            factory: opens a channel to the coordinator; None forbids the network.
            personal: whether a head that helps on the hold-out is put on top.

        Raises:
            ReleaseRollbackError: it is not newer than every release that ever ran here.
            VerificationError, NotFound, NetworkError, StorageError: as :meth:`deploy`.
        """
        with exclusive(self._dir, self._clock) as store:
            state = read_state(self._models)
            if state.active is not None and state.active.release_id == release_id.hex():
                return _already(state.active)
            fetched = self._fetch(store, state, release_id, factory)
            evidence = self._evidence(store, fetched.bundle.manifest.kind, personal=personal)
            judged = evidence.judge(fetched.candidate(), self._running(store, state))
            return self._run(
                store, state, judged.candidate, evidence, Reason.OPERATOR, figures(judged)
            )

    def check(self, release_id: bytes, factory: ChannelFactory | None = None) -> FetchedRelease:
        """Fetch and verify a release as :meth:`activate` would; what runs stays as it is."""
        with exclusive(self._dir, self._clock) as store:
            return self._fetch(store, read_state(self._models), release_id, factory)

    def activate_local(
        self, kind: str | None = None, spec: ModelSpec | None = None
    ) -> DeploymentOutcome:
        """Let the member's own local-only model run because the operator says so.

        Args:
            kind: ``listing`` or ``shop``; by default that of what runs, else of the records.
            spec: the model's shape; by default that of what runs, else the smallest standard one.

        Raises:
            NotFound: there are no records to train one on.
        """
        with exclusive(self._dir, self._clock) as store:
            state = read_state(self._models)
            running = self._running(store, state)
            if running is not None:
                kind, spec = kind or running.kind, spec or running.spec
            evidence = self._evidence(store, kind or kind_of_records(store))
            local = evidence.local(spec or ModelSpec())
            if local is None:
                raise NotFound(
                    "there are no labelled records to train a local model on",
                    hint="import records and verdicts first",
                )
            if state.active is not None and state.active.path == local.path:
                return _already(state.active)
            return self._run(store, state, local, evidence, Reason.OPERATOR, {})

    def rollback(self) -> DeploymentOutcome:
        """Let what ran before run again; the highest release number ever active stays.

        Raises:
            NotFound: nothing ran before, or its files are gone.
            VerificationError: its files are not what they were.
        """
        with exclusive(self._dir, self._clock) as store:
            state = read_state(self._models)
            last = state.last()
            load_activation(self._dir, last)
            again = last.model_copy(
                update={
                    "activation_id": secrets.token_hex(16),
                    "action": "rollback",
                    "reason": Reason.OPERATOR.value,
                    "at": rfc3339(self._clock.now()),
                }
            )
            self._switch(store, state.rolled_back(again))
            return _outcome("activated", again)

    def pin(self, release: str) -> tuple[bool, str]:
        """Keep what runs until a person changes it.

        Args:
            release: what the person means to pin: an id, its first digits, or ``local``.

        Returns:
            Whether that was new, and what runs: a release's id in hex, or ``local``.

        Raises:
            NotFound: nothing runs that could be pinned.
            StateError: something else runs.
        """
        with exclusive(self._dir, self._clock) as store:
            state = read_state(self._models)
            name = pinnable(state, release)
            if not state.pinned:
                # The log first: a pin that a killed process did not set is asked for again.
                store.audit.append("model.pinned", {"release_id": name})
                write_state(self._models, state.model_copy(update={"pinned": True}))
            return not state.pinned, name

    def unpin(self) -> tuple[bool, str]:
        """Let releases activate by themselves again; returns as :meth:`pin`."""
        with exclusive(self._dir, self._clock) as store:
            state = read_state(self._models)
            name = "" if state.active is None else state.active.release_id
            if state.pinned:
                store.audit.append("model.unpinned", {"release_id": name})
                write_state(self._models, state.model_copy(update={"pinned": False}))
            return state.pinned, name

    def compare(
        self, release_id: bytes, factory: ChannelFactory | None = None
    ) -> tuple[FetchedRelease, Judged]:
        """Judge a release of any age without changing what runs; raises as :meth:`deploy`."""
        with exclusive(self._dir, self._clock) as store:
            fetched = fetch_release(self._dir, release_id, factory, min_sequence=1)
            evidence = self._evidence(store, fetched.bundle.manifest.kind)
            state = read_state(self._models)
            return fetched, evidence.judge(fetched.candidate(), self._running(store, state))

    def _fetch(
        self,
        store: Store,
        state: ActiveState,
        release_id: bytes,
        factory: ChannelFactory | None,
        *,
        run_id: bytes | None = None,
        above: int = 0,
    ) -> FetchedRelease:
        lowest = max(state.highest_sequence, above) + 1
        try:
            fetched = fetch_release(
                self._dir, release_id, factory, min_sequence=lowest, run_id=run_id
            )
        except VerificationError as error:
            body = {"release_id": release_id.hex(), "code": error.code}
            store.audit.append("model.refused", body)
            raise
        manifest = fetched.bundle.manifest
        verified = {"release_id": release_id.hex(), "sequence": manifest.sequence}
        store.audit.append("model.verified", verified)
        return fetched

    def _decide(
        self, store: Store, state: ActiveState, fetched: FetchedRelease
    ) -> DeploymentOutcome:
        evidence = self._evidence(store, fetched.bundle.manifest.kind)
        running = self._running(store, state)
        judged = evidence.judge(fetched.candidate(), running)
        release, verdict, metrics = judged.candidate, judged.verdict, figures(judged)
        if state.pinned:
            metrics["unpinned"] = {"accept": verdict.accept, "reason": verdict.reason.value}
            log.record(store, release.release_id, "keep", Reason.PINNED, metrics)
            return DeploymentOutcome("kept", Reason.PINNED.value, metrics, release.release_id)
        if verdict.accept:
            return self._run(store, state, release, evidence, verdict.reason, metrics)
        log.record(store, release.release_id, "keep", verdict.reason, metrics)
        local = evidence.local(release.spec) if running is None else None
        if local is not None:
            # Only the local-only model can have spoken against the first release.
            return self._run(store, state, local, evidence, verdict.reason, metrics)
        return DeploymentOutcome("kept", verdict.reason.value, metrics, release.release_id)

    def _running(self, store: Store, state: ActiveState) -> LoadedModel | None:
        """Return what runs; a model that no longer loads runs nothing and is no rival."""
        if state.active is None:
            return None
        try:
            return load_activation(self._dir, state.active)
        except (VerificationError, NotFound) as error:
            body = {"release_id": state.active.release_id, "code": error.code}
            store.audit.append("model.unusable", body)
            return None

    def _run(
        self,
        store: Store,
        state: ActiveState,
        candidate: Candidate,
        evidence: Evidence,
        reason: Reason,
        metrics: dict[str, Any],
    ) -> DeploymentOutcome:
        """Calibrate a candidate on the member's own split and let it run."""
        calibration = evidence.calibration(candidate)
        activation = Activation(
            activation_id=secrets.token_hex(16),
            release_id=candidate.release_id,
            path=candidate.path,
            sha256=candidate.sha256,
            kind=candidate.kind,
            sequence=candidate.sequence,
            calibration=None if calibration is None else calibration.to_dict(),
            head=self._write_head(candidate),
            action="activate",
            reason=reason.value,
            metrics=metrics,
            at=rfc3339(self._clock.now()),
        )
        self._switch(store, state.activated(activation))
        return _outcome("activated_local" if candidate.sequence == 0 else "activated", activation)

    def _write_head(self, candidate: Candidate) -> HeadRef | None:
        """Put a candidate's head on the disk, before anything names it."""
        if candidate.head is None:
            return None
        path, sha256 = write_head(self._models, candidate, candidate.head.head)
        return HeadRef(path=path, sha256=sha256, setting=candidate.head.head.setting)

    def _switch(self, store: Store, state: ActiveState) -> None:
        write_state(self._models, state)
        log.catch_up(store, state)

    def _evidence(self, store: Store, kind: str, *, personal: bool = True) -> Evidence:
        rule = rule_of(self._dir)
        if not personal:
            rule = replace(rule, personal=False)
        return Evidence(self._dir, kind, self._given_sets or training_sets(store), rule)


def deploy_release(
    state_dir: Path,
    release_id: bytes,
    channel_factory: ChannelFactory,
    *,
    run_id: bytes | None = None,
    clock: Clock | None = None,
    sets: TrainingSets | None = None,
) -> DeploymentOutcome:
    """Deploy the release of a run that has ended; what the node calls.

    Args:
        state_dir: the member's state folder.
        release_id: 16 bytes.
        channel_factory: opens a channel to the coordinator.
        run_id: when given, the run it must be the release of.
        clock: stamps decisions.
        sets: the member's records if they are in memory already; else its store is read.

    Raises:
        TouchstoneError: see :meth:`Deployer.deploy`; what ran before still runs.
    """
    deployer = Deployer(state_dir, clock=clock, sets=sets)
    return deployer.deploy(release_id, channel_factory, run_id=run_id)


def _outcome(decision: Decision, activation: Activation) -> DeploymentOutcome:
    return DeploymentOutcome(
        decision,
        activation.reason,
        activation.metrics,
        activation.release_id,
        activation.calibration is not None,
        None if activation.head is None else activation.head.setting,
    )


def _already(activation: Activation) -> DeploymentOutcome:
    return replace(_outcome("already_active", activation), reason=Reason.ALREADY_ACTIVE.value)
