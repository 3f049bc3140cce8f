"""The coordinator's memory in a set-up and one round, ours or Flower's, members in another process.

Usage: python benchmarks/secagg_memory.py touchstone|flower MEMBERS PARAMS LOST

Prints bytes: the peak of resident memory (RSS) less what it was after the imports, with the
members' process connected by a pipe. Both coordinators send the model, get bytes, decode them and
end with the next model. Ours holds ``MAX_UPLOADS`` vectors at a time, as the real one does;
Flower's workflow takes all replies of a stage at once.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from loopback import forget_peak, memory
from secagg import terms_for

from shared.limits import MAX_UPLOADS
from shared.secagg import (
    Coordinator,
    Layout,
    Member,
    MemberLimits,
    RunGuard,
    SessionTerms,
    build_vector,
    check_sum,
    next_model,
    peek,
)
from shared.secagg.wire import MASKED

INDEX_BYTES = 4


def ours(pipe: Connection, key: Ed25519PrivateKey, terms: SessionTerms, options) -> None:
    """Run our coordinator through a set-up and a round."""

    def send(index: int, request: bytes) -> None:
        pipe.send_bytes(index.to_bytes(INDEX_BYTES, "big") + request)

    def ask(index: int, request: bytes) -> bytes:
        send(index, request)
        return pipe.recv_bytes()

    desk = Coordinator.begin(terms=terms, signing_key=key)
    for index in terms.indices:
        desk.on_advertise(index, ask(index, desk.advertise_request()))
    request = desk.share_request()
    for index in terms.indices:
        desk.on_share(index, ask(index, request))
    for index in terms.indices:
        desk.on_confirm(index, ask(index, desk.confirm_request(index)))
    desk.finish_setup()
    layout = Layout(options.params, evaluates=False)
    model = np.zeros(options.params, dtype=np.float32)
    digest = hashlib.sha256(model.data).digest()
    request = desk.open_round(1, terms.indices, digest, b"", layout.words)
    alive = terms.indices[: options.members - options.lost]
    for start in range(0, len(alive), MAX_UPLOADS):
        uploads = []
        for index in alive[start : start + MAX_UPLOADS]:
            send(index, request)
            pipe.send_bytes(model.data.cast("B"))
            uploads.append((index, pipe.recv_bytes(), pipe.recv_bytes()))
        while uploads:
            index, header, vector = uploads.pop()
            desk.on_masked(index, header, np.frombuffer(vector, "<u8"))
    desk.close_masked()
    request = desk.unmask_request()
    for index in alive:
        desk.on_unmask(index, ask(index, request))
    if desk.needs_release:
        request = desk.release_request()
        for index in alive:
            desk.on_release(index, ask(index, request))
    result = desk.finish_round()
    opened = check_sum(result.vector, layout, len(result.survivors), terms.quantiser)
    next_model(model, opened.mean)


def our_members(pipe: Connection, encoded: bytes, raw_keys: list[bytes], params: int) -> None:
    """Answer for all of our members until the coordinator hangs up."""
    terms = SessionTerms.decode(encoded)
    limits = MemberLimits(terms.n_min, terms.max_colluders, frozenset(terms.indices))
    nodes = {
        index: Member.begin(
            index=index, signing_key=Ed25519PrivateKey.from_private_bytes(raw),
            terms=terms, limits=limits, guard=RunGuard(terms.run_id),
        )
        for index, raw in zip(terms.indices, raw_keys, strict=True)
    }  # fmt: skip
    delta = np.full(params, 0.01, dtype=np.float32)
    for data in received(pipe):
        node, request = nodes[int.from_bytes(data[:INDEX_BYTES], "big")], data[INDEX_BYTES:]
        if peek(request).kind != MASKED:
            pipe.send_bytes(node.handle(request))
            continue
        node.open_round(request, pipe.recv_bytes())
        upload = node.mask(build_vector(delta, 1.0, terms.quantiser))
        pipe.send_bytes(upload.header)
        pipe.send_bytes(upload.vector.data.cast("B"))


def flower(pipe: Connection, options) -> None:
    """Run Flower's coordinator through its round."""
    from flower_secaggplus import decode, drive, encode

    def ask(node: int, message):
        pipe.send_bytes(node.to_bytes(INDEX_BYTES, "big") + encode(message))
        return decode(pipe.recv_bytes())

    *_, done = drive(options.members, options.params, options.lost, ask)
    if not done:
        raise SystemExit("Flower's workflow has no result")


def flower_members(pipe: Connection, members: int, params: int) -> None:
    """Answer for all of Flower's members until the coordinator hangs up."""
    from flower_secaggplus import Members, decode, encode

    nodes = Members(members, params)
    for data in received(pipe):
        node = int.from_bytes(data[:INDEX_BYTES], "big")
        pipe.send_bytes(encode(nodes.answer(node, decode(data[INDEX_BYTES:]))))


def received(pipe: Connection):
    """Yield what arrives until the other side hangs up."""
    while True:
        try:
            yield pipe.recv_bytes()
        except EOFError:
            return


def growth(target: Callable, given: tuple, work: Callable[[Connection], None]) -> int:
    """Return by how many bytes ``work`` makes this process grow; ``target`` runs in another."""
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe()
    child = processes.Process(target=target, args=(there, *given), daemon=True)
    child.start()
    there.close()
    forget_peak("self")
    idle = memory("self", "VmRSS")
    work(here)
    peak = memory("self", "VmHWM")
    here.close()
    child.join()
    return peak - idle


def main() -> None:
    """Measure one case and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=("touchstone", "flower"))
    for name in ("members", "params", "lost"):
        parser.add_argument(name, type=int)
    options = parser.parse_args()
    if options.side == "flower":
        import flower_secaggplus  # noqa: F401  # what it imports is not what is measured

        given = (options.members, options.params)
        print(growth(flower_members, given, lambda pipe: flower(pipe, options)))
        return
    keys = {i: Ed25519PrivateKey.generate() for i in range(options.members + 1)}
    terms = terms_for(options.members, keys)
    raw = [keys[i].private_bytes_raw() for i in terms.indices]
    given = (terms.encode(), raw, options.params)
    print(growth(our_members, given, lambda pipe: ours(pipe, keys[0], terms, options)))


if __name__ == "__main__":
    main()
