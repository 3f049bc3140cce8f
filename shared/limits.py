"""Caps on every quantity a peer or a file controls, each with its reason."""

from __future__ import annotations

MAX_MEMBERS = 4096
"""Roster entries: far above any alliance; bounds the memory a forged roster can take."""

MAX_GROUP = 64
"""Members in one secure-sum group: set-up traffic is quadratic (docs: the secure sum, Limits)."""

MAX_MODEL_VALUES = 64_000_000
"""float32 values in one model: 256 MB, above every model this feature space can carry."""

MAX_MODEL_WEIGHT = 10_000.0
"""Largest absolute value of a weight in a model that a round works on. Trained models stay below
10; sums and products of float32 weights this small stay far from infinity, so that no model can be
built whose training or evaluation fails because of one record (docs/adr/0019)."""

MIN_GROUP = 40
"""Members in a group when there are several: in smaller ones a tenth of the alliance, colluding,
would too often be a third of some group (docs: the secure sum, Groups)."""

MAX_DRAWINGS = 8
"""Times members of one roster let their groups be drawn: a coordinator that does not like the
outcome gets no more throws than these."""

CHUNK_BYTES = 512 * 1024
"""Payload of one frame: well under gRPC's 4 MiB limit, large enough to keep the pipe full."""

MAX_MESSAGE_BYTES = 512 * 1024 * 1024
"""One fleet message after reassembly, where nothing tighter is known of it."""

MAX_MESSAGE_FIELDS = 1024
"""Fields in one fleet message, nested ones counted: ours have under fifty. A field of two bytes
becomes an object of a hundred."""

MAX_MESSAGE_LIST_BYTES = 64
"""Packed numbers in one field of a fleet message: an array's shape. Decoded, each byte of such a
list takes up to 22; models and vectors travel as plain bytes."""

MAX_MESSAGE_TEXT_BYTES = 16 * 1024
"""One text in a fleet message: names, codes, reasons. A text in memory takes up to four bytes for
each byte on the wire."""

MAX_SHORT_REPLY_BYTES = 64 * 1024
"""A reply that carries neither a vector nor set-up shares: the longest, a round's shares of 64
members, has 4 KiB."""

GRANT_BYTES = 1024 * 1024
"""Uploads above this wait for a grant, so that coordinator memory does not grow with members."""

MAX_UPLOADS = 4
"""Large uploads in flight at once at the coordinator."""

MAX_NAME = 120
"""Characters in a name that people choose."""

MAX_REASON = 500
"""Characters in a reason that a person gives for a decision."""

MAX_ASKED_RUNS = 256
"""Runs a node remembers having been asked to join: years of runs, and a bound on what a
coordinator that signs manifests without end can make a member keep."""

MAX_NOTED_REFUSALS = 100
"""Audit events a day about manifests and drawings that a node refuses without knowing the run, and
about steps that failed unexpectedly: enough to see what is going on, and no flood."""

MAX_CSR_BYTES = 8192
"""One certificate signing request."""

MAX_BUNDLE_MANIFEST_BYTES = 64 * 1024
"""A release manifest: a few hundred bytes plus at most MAX_BUNDLE_METRICS short lines."""

MAX_BUNDLE_METRICS = 256
"""Alliance-level figures in one release."""

MAX_BUNDLE_BYTES = 4 * MAX_MODEL_VALUES + 1024 * 1024
"""A whole release: the largest model's float32 values, its manifest and the framing."""

MAX_TRANSCRIPT_ROUNDS = 100_000
"""Round records in one run's transcript: far above any run."""

MAX_TRANSCRIPT_BYTES = 256 * 1024 * 1024
"""One run's transcript: 10,000 rounds of 64 members, certificates included."""

MAX_KEY_FILE_BYTES = 16 * 1024
"""One PEM file with a private key: an encrypted P-256 key has under 500 bytes."""

MAX_CERTIFICATE_BYTES = 16 * 1024
"""One PEM certificate: ours have under 1 KiB; bounds what a parser is fed."""

MAX_TOKEN_FILE_BYTES = 16 * 1024
"""One invitation file: a certificate and a dozen short lines."""

MAX_ENROLMENT_MESSAGE_BYTES = 64 * 1024
"""One message on the enrolment port, which strangers can reach: two requests and a token."""

ENROLMENT_CALLS_PER_MINUTE = 60
"""From one address: a whole alliance behind one gateway may join, a flood of parsing may not."""

RENEWALS_PER_MINUTE = 6
"""From one member: an honest one renews every year or two, and repeats a lost reply at most."""

MAX_OPEN_RENEWALS = 8
"""Certificates of one member that were issued and not used yet. The last few must all stay good:
a reply may be lost, and requests may overtake each other."""

MAX_TRACKED_ADDRESSES = 4096
"""Addresses the rate limit remembers: bounds its memory when a flood has many sources."""

MAX_SECAGG_SLOTS = 64
"""One-time masks of one session: bounds what set-up computes, sends and keeps."""

MAX_SECAGG_FIELD_BYTES = 4 * 1024 * 1024
"""One length-prefixed field of a secure-sum message: 64 members x 64 slots x 96 bytes."""

MAX_SECAGG_MESSAGE_BYTES = 64 * 1024 * 1024
"""One stored message or set-up state of the secure sum, masked vectors apart."""

MAX_EVIDENCE_BYTES = 16 * 1024 * 1024
"""One file of a run's evidence but a vector: a session of 64 members with all its commitments is
under 1 MB, the shares of a round less."""

MAX_ROUND_CONFIG_BYTES = 64 * 1024
"""The training config of one round."""

MAX_RUN_ROUNDS = 10_000
"""Rounds of one run: bounds what a member remembers of it."""

MAX_VECTOR_WORDS = 24_000_000
"""64-bit words in one masked vector: MAX_MODEL_VALUES in lanes of three, and the tail."""

MAX_MESSAGE_ID_CHARS = 64
"""A fleet message's id: 32 hexadecimal digits today, with room to change."""

MAX_HELD_MESSAGES = 64
"""Instructions one node keeps at once; a run has one or two open for a member."""

MAX_INSTRUCTION_BYTES = 4 * MAX_MODEL_VALUES + MAX_SECAGG_FIELD_BYTES + 1024 * 1024
"""One instruction to a member: the largest model's float32 values, a message of the secure sum, and
a signed manifest of MAX_MEMBERS members with the framing."""

MAX_HELD_BYTES = MAX_INSTRUCTION_BYTES
"""Instructions that wait at a node for the one it works on, together: the largest one, or many of
the usual few MB. What a coordinator sends a busy node must not fill its memory."""

MAX_CALLS_OF_MEMBER = 4
"""Calls that one member has open at once of one service: its stream and one that is being replaced,
or a download or two. Each may hold a file's worth of memory at the coordinator."""

MAX_MEMBER_CALLS = 2 * MAX_MEMBERS
"""Calls on the members' port at once: every member's stream, and one more of each."""

MAX_SEND_ATTEMPTS = 3
"""Times a message that arrives damaged is sent again; TLS makes even the first one a surprise."""

MAX_DOWNLOADS = 8
"""Messages being sent at once: bounds what gRPC buffers of them, whatever the members."""

MAX_CONFIG_BYTES = 256 * 1024
"""One TOML file that a person wrote."""

MAX_EXPORT_FIELD = 4 * 1024 * 1024
"""Characters in one CSV field: a quote left open would otherwise swallow the rest of the file."""

MIN_TRANSFER_BYTES_S = 64 * 1024
"""Slowest transfer that may keep its place: a 4 MB model in a minute. Without it, a few members
that send or take one byte now and then would hold every place for ever."""

MAX_QUEUED_FRAMES = 1024
"""Control frames waiting for a peer that does not read; an honest one never has ten."""
