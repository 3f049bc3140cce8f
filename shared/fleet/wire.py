"""What both ends of a fleet stream must agree on besides its frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

import grpc

from shared.limits import CHUNK_BYTES

In = TypeVar("In", covariant=True)
Out = TypeVar("Out", contravariant=True)

DIRECT = (("grpc.enable_http_proxy", 0),)
"""Options of every channel. gRPC would go by ``https_proxy`` and its like, which are set for a
machine's browsers: a proxy that does not know the coordinator, or opens TLS, keeps a node out."""

PROTOCOL = 1
"""Version of the stream's rules; a change that old peers cannot follow raises it."""

SESSION_BYTES = 16
"""Random bytes that name one life of a process."""

_FRAME_SLACK = 64 * 1024
"""Bytes of a frame besides a chunk's payload; the longest Hello (ids held) stays below it."""


class Stream(Protocol, Generic[In, Out]):
    """Either end of an open gRPC stream: frames ``In`` to read, frames ``Out`` to write."""

    async def read(self) -> In | object:
        """Return the next frame, or gRPC's end-of-stream mark."""
        ...

    async def write(self, frame: Out, /) -> None:
        """Send a frame; returns when gRPC has taken it."""
        ...


async def next_frame(stream: Stream[In, Out]) -> In | None:
    """Return the next frame, or None at the end of the stream."""
    frame = await stream.read()
    return None if frame is grpc.aio.EOF else cast("In", frame)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Timing:
    """Time limits of a stream, in seconds."""

    keepalive_s: float = 10.0
    """A peer that has heard nothing for so long asks whether the other is still there."""
    silence_s: float = 35.0
    """A stream without any frame for so long is dead: three keep-alives and some slack."""
    hello_s: float = 15.0
    """From opening the stream to its first frame."""
    stall_s: float = 60.0
    """A transfer without progress for so long gives its place to the next."""
    admit_s: float = 2.0
    """Between two looks at whether a connected member is still admitted."""
    backoff_first_s: float = 0.25
    """Upper bound of the first pause before connecting again; it doubles from try to try."""
    backoff_max_s: float = 15.0
    """Upper bound of any pause before connecting again."""
    stop_s: float = 5.0
    """Left to the instruction in progress when a node is told to stop."""


def channel_options(timing: Timing) -> list[tuple[str, int]]:
    """Return gRPC options for either end: small frames, and keep-alive below the stream's own."""
    frame = CHUNK_BYTES + _FRAME_SLACK
    keepalive_ms = int(timing.keepalive_s * 2000)
    return [
        *DIRECT,
        ("grpc.max_receive_message_length", frame),
        ("grpc.max_send_message_length", frame),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", keepalive_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", keepalive_ms // 2),
        # Two servers on one port would share members between them; two channels to one server
        # would share its back-off.
        ("grpc.so_reuseport", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
