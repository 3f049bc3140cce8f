"""Deciding about models: deploy a release, activate by hand, compare, roll back.

The order within every change: the model's files are on disk and verified, then ``active.json``
is replaced by one rename, then the log is written. A process killed anywhere leaves the old
model running or the new one; what it could not write down is written at the next step.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    nothing_to_train,
    training_sets,
)
from participant.deployment.fetch import FetchedRelease, fetch_release
from participant.deployment.floor import allowed
from participant.deployment.folder import exclusive
from participant.deployment.head import write_head
from participant.deployment.outcome import DeploymentOutcome, already, outcome, repaired
from participant.deployment.past import past_of
from participant.deployment.rule import rule_of
from participant.deployment.standing import fetch_repairs, whole
from participant.deployment.state import (
    Activation,
    ActiveState,
    HeadRef,
    pinnable,
    read_state,
    write_state,
)
from participant.deployment.step_back import step_back
from participant.node.registry_client import ChannelFactory
from participant.store import Store
from shared.clock import Clock, SystemClock, rfc3339
from shared.errors import NotFound, VerificationError
from shared.model.layout import ModelSpec


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
        and kept back. If it
        runs already and is damaged, it is repaired.

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
            if standing := whole(self._dir, state, release_id):
                return already(standing)
            past, name = past_of(store), release_id.hex()
            runs = state.active is not None and state.active.release_id == name
            if name in past.judged and not runs:
                again = Reason.ALREADY_JUDGED.value
                return DeploymentOutcome("already_judged", again, {}, name)
            above = 0 if runs else past.highest
            fetched = self._fetch(store, state, release_id, factory, run_id=run_id, above=above)
            if standing := whole(self._dir, state, release_id):
                return _repaired(store, standing)
            return self._decide(store, state, fetched)

    def activate(
        self,
        release_id: bytes,
        factory: ChannelFactory | None = None,
        *,
        personal: bool = True,
    ) -> DeploymentOutcome:
        """Let a release run because the operator says so; it must verify and be newer.

        The newest that ever ran may run again, which undoes a rollback. What runs already is
        repaired if it is damaged. A pin does not stand against it, and stays: what runs then is
        pinned.

        Args:
            release_id: 16 bytes.
            factory: opens a channel to the coordinator; None forbids the network.
            personal: whether a head that helps on the hold-out is put on top.

        Raises:
            ReleaseRollbackError: it is older than a release that ever ran here.
            VerificationError, NotFound, NetworkError, StorageError: as :meth:`deploy`.
        """
        with exclusive(self._dir, self._clock) as store:
            state = read_state(self._models)
            if standing := whole(self._dir, state, release_id):
                return already(standing)
            fetched = self._fetch(store, state, release_id, factory, again=True)
            if standing := whole(self._dir, state, release_id):
                return _repaired(store, standing)
            evidence = self._evidence(store, fetched.bundle.manifest.kind, personal=personal)
            judged = evidence.judge(fetched.candidate(), self._running(store, state))
            return self._run(
                store, state, judged.candidate, evidence, Reason.OPERATOR, figures(judged)
            )

    def check(self, release_id: bytes, factory: ChannelFactory | None = None) -> str:
        """Fetch and verify a release as :meth:`activate` would, and say what that would do.

        Nothing that was fetched is kept, and what runs stays as it is.
        """
        with exclusive(self._dir, self._clock) as store:
            state = read_state(self._models)
            if whole(self._dir, state, release_id):
                return "already_active"
            self._fetch(store, state, release_id, factory, again=True, keep=False)
            repairs = fetch_repairs(self._dir, state, release_id)
            return "would_repair" if repairs else "would_activate"

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
            evidence, spec = self._own(store, state, running, kind, spec)
            local = evidence.local(spec)
            if local is None:
                raise nothing_to_train()
            if state.active is not None and state.active.sha256 == local.sha256:
                if running is not None:
                    return already(state.active)
                if state.active.path == local.path:  # fitted again just now, where it lay
                    return _repaired(store, state.active)
            return self._run(store, state, local, evidence, Reason.OPERATOR, {})

    def check_local(self) -> str:
        """Say what :meth:`activate_local` would do; nothing is fitted; raises as it does."""
        with exclusive(self._dir, self._clock) as store:
            state = read_state(self._models)
            running = self._running(store, state)
            evidence, spec = self._own(store, state, running, None, None)
            if not evidence.trainable(spec):
                raise nothing_to_train()
            if state.active is None or not evidence.fitted_as(spec, state.active.path):
                return "would_activate"
            return "would_repair" if running is None else "already_active"

    def rollback(self) -> DeploymentOutcome:
        """Let what ran before run again; the highest release number ever active stays.

        A model that no longer loads is passed over.

        Raises:
            NotFound: nothing ran before, or its files are gone.
            VerificationError: its files are not what they were.
        """
        with exclusive(self._dir, self._clock) as store:
            state = read_state(self._models)
            last, skipped = step_back(self._dir, state)
            for name in skipped:
                store.audit.append("model.skipped", {"release_id": name})
            again = last.model_copy(
                update={
                    "activation_id": secrets.token_hex(16),
                    "action": "rollback",
                    "reason": Reason.OPERATOR.value,
                    "at": rfc3339(self._clock.now()),
                }
            )
            self._switch(store, state.rolled_back(again, len(skipped) + 1))
            return replace(outcome("activated", again), skipped=skipped)

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
        again: bool = False,
        keep: bool = True,
    ) -> FetchedRelease:
        lowest, sha256 = allowed(store, state, release_id, again=again)
        try:
            fetched = fetch_release(
                self._dir,
                release_id,
                factory,
                min_sequence=max(lowest, above + 1),
                run_id=run_id,
                sha256=sha256,
                keep=keep,
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

    def _own(
        self,
        store: Store,
        state: ActiveState,
        running: LoadedModel | None,
        kind: str | None,
        spec: ModelSpec | None,
    ) -> tuple[Evidence, ModelSpec]:
        """Return what judges the member's own model, and the shape it would have."""
        if running is not None:
            kind, spec = kind or running.kind, spec or running.spec
        elif state.active is not None:
            kind = kind or state.active.kind
        return self._evidence(store, kind or kind_of_records(store)), spec or ModelSpec()

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
        return outcome("activated_local" if candidate.sequence == 0 else "activated", activation)

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

        def damaged(name: str) -> None:
            store.audit.append("model.refitted", {"file": name})

        return Evidence(self._dir, kind, self._given_sets or training_sets(store), rule, damaged)


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


def _repaired(store: Store, activation: Activation) -> DeploymentOutcome:
    store.audit.append("model.repaired", {"release_id": activation.release_id})
    return repaired(activation)
