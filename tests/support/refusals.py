"""One member that is asked about runs, with its log and the coordinator's at hand."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from coordinator.enrolment.files import load_signing_key
from coordinator.enrolment.service import roster
from coordinator.rounds.context import RunContext
from coordinator.rounds.drawing import GroupDraw
from coordinator.rounds.setup import Refusals
from coordinator.rounds.waiting import ask_waiting
from participant.node import explain
from participant.node.peers import PINS_FILE
from participant.node.reasons import REASONS, told_to_coordinator
from participant.node.runtime import NodeRuntime
from participant.store import Store
from shared.clock import SystemClock
from shared.fleet.exchange import COMMIT_TO_DRAW, Instruction
from shared.trust.grouping import sign_call
from shared.trust.manifest import sign_manifest
from tests.support.runs import POLICY, SETTINGS, KnownLearner

MEMBER, NAME = 3, "member-3"


class Case:
    """One member that is asked about runs, with both audit logs at hand."""

    def __init__(self, fed):
        self.fed = fed
        self.folder = fed.alliance.dir_of(NAME)
        self.known = KnownLearner(0.01, None).facts()
        self.store = Store.open(self.folder)
        self._pins = (self.folder / PINS_FILE).read_text()

    def reset(self):
        self.known = KnownLearner(0.01, None).facts()
        self.policy()
        self.fed.grid.absent.clear()
        self.fed.grid.lose_reply = lambda _message: False
        (self.folder / PINS_FILE).write_text(self._pins)
        self.restart()

    def restart(self, **options):
        with suppress(KeyError):
            self.fed.nodes.restart(MEMBER)
        options = {"make_learner": self._learner, **options}
        self.fed.nodes.running[MEMBER] = NodeRuntime(self.folder, **options)

    def _learner(self, _store, _kind, spec):
        return KnownLearner(0.01, spec, self.known)

    def policy(self, *lines):
        """Let the member have the tests' policy with these rules in place of its own."""
        names = {line.split(" ")[0] for line in lines}
        kept = [line for line in POLICY.splitlines() if line.split(" ")[0] not in names]
        (self.folder / "policy.toml").write_text("\n".join([*kept, *lines, ""]))

    def start(self, settings=SETTINGS):
        return self.fed.start(settings)

    def tamper(self, run_id, **changes):
        """Sign another manifest for a run, as only the coordinator could."""
        context = self.context(run_id)
        signed = sign_manifest(replace(context.manifest, **changes), context.key)
        self.fed.database.write("tamper", lambda unit: unit.runs.set_manifest(run_id, signed))

    def context(self, run_id):
        folder = self.fed.alliance.coordinator_dir
        return RunContext(
            folder,
            self.fed.database,
            self.fed.grid,
            signing_key=load_signing_key(folder),
            run_id=bytes.fromhex(run_id),
        )

    def ask(self, run_id):
        """Ask the member as the coordinator does between rounds; return the code it was told."""
        refusals = Refusals()
        ask_waiting(self.context(run_id), frozenset({MEMBER}), refusals)
        return refusals.by_policy.get(MEMBER, "")

    def answer(self, run_id):
        """Return the very answer that leaves the member."""
        node = self.fed.nodes.runtime(MEMBER)
        manifest = self.context(run_id).signed_manifest
        return node.answer(node.consent, Instruction(manifest=manifest))

    def draw(self, run_id, body, action=COMMIT_TO_DRAW):
        """Call the member to a drawing as the coordinator does; return the call, signed."""
        context = self.context(run_id)
        desk = GroupDraw(
            context.directory,
            roster(self.fed.database),
            context.settings,
            key=context.key,
            courier=context.courier,
            book=context.book,
        )
        call = sign_call(body.encode(), context.key)
        list(desk._ask(action, call, {MEMBER}))
        return call

    def member_events(self, kind):
        return [event.body for event in self.store.audit.events() if event.kind == kind]

    def member_log(self, run_id):
        return explain.answers_to(self.store, bytes.fromhex(run_id))

    def coordinator_log(self, run_id):
        events = self.fed.database.read("audit", lambda unit: list(unit.audit.events()))
        return [
            (event.body["member"], event.body["reason_code"])
            for event in events
            if event.kind == "run.refused" and event.body["run_id"] == run_id
        ]

    def check_refused(self, run_id, code):
        """Check what an actual refusal leaves behind, and that the member can find out why."""
        assert self.ask(run_id) == told_to_coordinator(code)
        assert self.coordinator_log(run_id) == [(MEMBER, told_to_coordinator(code))]
        assert self.member_log(run_id)[-1].reason == code
        found = explain.judge_run(self.folder, self.store, run_id, self.known, SystemClock().now())
        assert found.objections[0].reason == code
        assert found.objections[0].text == REASONS[code].text
        assert len(found.verdicts) > len(found.objections)
