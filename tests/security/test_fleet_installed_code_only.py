"""A member executes only what it has installed, whatever arrives over the network."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from alliance.v1 import fleet_pb2 as pb
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from participant.node.daemon import AppHandler
from participant.node.worker import respond
from shared.errors import MalformedMessage
from shared.fleet.messages import decode, encode, new_message, with_id
from tests.support.fleet import Fleet, content, echo

ROOT = Path(__file__).resolve().parents[2]
MESSAGE_PATH = [
    *sorted((ROOT / "shared/fleet").glob("*.py")),
    *(
        ROOT / f"participant/node/{name}.py"
        for name in ("connection", "inbox", "session", "worker")
    ),
]
LOADERS = {
    *("importlib", "pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "runpy"),
    *("zipimport", "zipfile", "tarfile", "subprocess", "imp", "code", "codeop", "ctypes", "torch"),
}
CALLS = {"eval", "exec", "compile", "__import__"}
KEY = "ab" * 16


@pytest.mark.parametrize("path", MESSAGE_PATH, ids=lambda path: path.stem)
def test_nothing_on_the_way_of_a_message_can_load_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in CALLS, f"{path.name}:{node.lineno}"
            continue
        else:
            continue
        assert not names & LOADERS, f"{path.name}:{node.lineno}"


def test_the_application_is_named_by_the_installation_alone() -> None:
    """`up` imports one module by a literal name, before there is a connection."""
    tree = ast.parse((ROOT / "participant/cli/up.py").read_text())
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    assert [n.module for n in imports if n.module == "participant.app"] == ["participant.app"]
    for node in ast.walk(ast.parse((ROOT / "participant/node/daemon.py").read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = getattr(node, "module", None) or node.names[0].name
            assert named.split(".")[0] not in LOADERS - {"importlib"}
            assert named != "importlib", "only importlib.metadata, for the version"


def app_that_counts() -> tuple[ClientApp, list[str]]:
    app, calls = ClientApp(), []

    @app.train("step")
    def step(message: Message, _context: Context) -> Message:
        calls.append("step")
        return echo(message)

    return app, calls


def instruction(record: RecordDict | None = None, kind: str = "train.step") -> Message:
    return with_id(new_message(record or content(), 1, kind, run_id=1), KEY)


@pytest.mark.parametrize(
    "kind", ["train", "train.other", "query.step", "evaluate", "train.__init__"]
)
def test_an_action_that_is_not_installed_is_an_error_reply(tmp_path: Path, kind: str) -> None:
    app, calls = app_that_counts()
    reply = decode(respond(AppHandler(app, tmp_path, 1), KEY, encode(instruction(kind=kind))))
    assert reply.error.reason == "failed: ValueError"
    assert calls == []


def test_bundles_and_pickles_in_a_message_are_inert_data(tmp_path: Path) -> None:
    """A bundle, a module's source and a pickle arrive; none of them is touched."""
    trap = tmp_path / "trap"
    source = f"open({str(trap)!r}, 'w').close()"
    pickled = b"cposix\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR."
    array = Array(dtype="object", shape=(1,), stype="numpy.ndarray", data=b"\x93NUMPY" + pickled)
    record = RecordDict(
        {
            "fab": ConfigRecord({"content": b"PK\x03\x04" + source.encode(), "hash": "0" * 64}),
            "app": ConfigRecord({"module": "os:system", "source": source, "pickle": pickled}),
            "weights": ArrayRecord({"x": array}),
        }
    )
    app, calls = app_that_counts()
    before = set(sys.modules)
    reply = decode(respond(AppHandler(app, tmp_path, 1), KEY, encode(instruction(record))))
    assert calls == ["step"]
    assert reply.content["app"]["source"] == source
    assert not trap.exists()
    assert not {name for name in set(sys.modules) - before if name.startswith("trap")}
    with pytest.raises(ValueError):
        np.asarray(reply.content["weights"]["x"].numpy())
    assert not trap.exists()


def test_an_instruction_for_another_member_is_refused(tmp_path: Path) -> None:
    app, calls = app_that_counts()
    reply = decode(respond(AppHandler(app, tmp_path, 2), KEY, encode(instruction())))
    assert "malformed" in reply.error.reason
    assert calls == []


@pytest.mark.parametrize("data", [b"\x80\x05.", b"PK\x03\x04", b"\x00" * 64])
def test_bytes_that_are_no_instruction_are_refused(tmp_path: Path, data: bytes) -> None:
    app, calls = app_that_counts()
    with pytest.raises(MalformedMessage):
        respond(AppHandler(app, tmp_path, 1), KEY, data)
    assert calls == []


def test_an_instruction_under_another_id_is_refused(tmp_path: Path) -> None:
    app, _ = app_that_counts()
    with pytest.raises(MalformedMessage):
        respond(AppHandler(app, tmp_path, 1), "cd" * 16, encode(instruction()))


def test_the_log_names_the_failure_but_not_the_content(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def leaky(_message: Message, _context: Context) -> Message:
        raise RuntimeError("listing 17: buy cheap watches")

    reply = decode(respond(AppHandler(leaky, tmp_path, 1), KEY, encode(instruction())))
    out = "".join(capfd.readouterr())
    assert "RuntimeError" in out
    assert "watches" not in out + json.dumps(reply.error.reason)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet(2)
    yield fleet
    fleet.close()


def test_garbage_from_the_coordinator_is_refused_and_the_node_lives(fleet: Fleet) -> None:
    """The coordinator's own sender is bypassed: what it encodes is replaced by rubbish."""
    from coordinator.fleet import outgoing

    real = outgoing.encode_body
    node = fleet.node(1)
    fleet.wait_connected(1)
    try:
        outgoing.encode_body = lambda _message: [b"\x80\x05garbage"]
        (reply,) = fleet.grid.send_and_receive(
            [fleet.grid.create_message(content(), "train", 1, "")], timeout=60
        )
    finally:
        outgoing.encode_body = real
    assert "malformed" in reply.error.reason
    (reply,) = fleet.grid.send_and_receive(
        [fleet.grid.create_message(content(), "train", 1, "")], timeout=60
    )
    assert reply.has_content()
    assert not node.future.done()


def test_an_announcement_beyond_the_limit_is_refused_by_the_node(fleet: Fleet) -> None:
    from coordinator.fleet.outgoing import Outgoing

    real = Outgoing.start

    def huge(outgoing: Outgoing) -> pb.MessageStart:
        start = real(outgoing)
        start.total_bytes = 1 << 40
        return start

    node = fleet.node(1)
    fleet.wait_connected(1)
    try:
        Outgoing.start = huge
        (reply,) = fleet.grid.send_and_receive(
            [fleet.grid.create_message(content(), "train", 1, "")], timeout=60
        )
    finally:
        Outgoing.start = real
    assert "message_too_large" in reply.error.reason
    assert not node.future.done()


def test_a_stranger_is_refused_and_does_not_try_for_ever(fleet: Fleet) -> None:
    from shared.errors import AuthError

    fleet.doorman.known.clear()
    node = fleet.node(1)
    with pytest.raises(AuthError):
        node.future.result(60)
