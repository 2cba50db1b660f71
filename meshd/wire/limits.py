"""Every cap on what crosses a border, each with its reason. Larger is refused, never cut.

A message's own cap is not here: it follows from its fields (`meshd.wire.codec.frame_limit`).
"""

from __future__ import annotations

PROTOCOL = 1
"""Version in every frame's header. A change that an older reader refuses is a new version."""

HEADER_BYTES = 5
"""Magic "mD", version u8, message number u16 big-endian."""

MAX_INT = 2**53 - 1
"""Largest whole number of any field: exact in a double too, so JSON and TOML carry it unharmed
(RFC 8259, section 6)."""

BLOCK_BYTES = 1 << 20
"""A blob travels in blocks of this size: small enough that a heartbeat behind one waits 10 ms on
1 Gbit/s, large enough that 64 bytes of framing are nothing."""

MAX_BLOCKS = 65_536
"""Blocks of one blob: their digests (32 bytes each) fill 2.2 MiB, one control frame."""

MAX_BLOB_BYTES = MAX_BLOCKS * BLOCK_BYTES
"""64 GiB: follows from the manifest being one message."""

MAX_CONTROL_FRAME_BYTES = 4 << 20
"""Any control or local frame: the largest message, a full manifest, is 2.3 MiB. The precedent for
the order of magnitude is gRPC's default of 4 MiB for a received message."""

MAX_BULK_PAYLOAD_BYTES = 64 << 20
"""One chunk of a ring exchange. At one bit a parameter this is half a billion parameters."""

MAX_DEPTH = 8
"""Containers within containers. The deepest message, JobUpdate (record, checkpoint, slices, one
slice), has 5; the rest is room for the next protocol version."""

MAX_TOKENS = 262_144
"""Values in one frame, counted before any is built: the largest message (RingPlan) has 162,000.
Without it 10 MB of empty maps cost 606 MiB (msgpack 1.2, measured)."""

MAX_MEMBERS = 256
"""Ring members; the same bound as `mesh.members_max` of a job file."""

MAX_SLICES = 4096
"""Slices of one job's state: 16 for each of the most members, far finer than needed."""

MAX_HISTORY = 64
"""Rings of a state's history that are told: what lies further back is not compared any more."""

MAX_TRANSFERS = 16_384
"""Transfers of one plan: four machines that come at once get all slices, or their weights."""

MAX_SPEC_BYTES = 64 * 1024
"""Canonical JSON of a job's spec; `meshd.core.jobspec.MAX_JOB_FILE_BYTES`."""

MAX_LINE_BYTES = 1000
"""A sentence for a person (a reason, a why): a few lines of a terminal."""

MAX_NAME_BYTES = 63
"""A machine's name: one DNS label (RFC 1035, section 2.3.4), since mDNS announces it."""

MAX_HOST_BYTES = 253
"""A host name or address (RFC 1035, section 2.3.4, as text)."""

MAX_PATH_BYTES = 4095
"""Linux's PATH_MAX less its NUL."""

MAX_ARGUMENTS_BYTES = 256 * 1024
"""JSON of a local command's arguments: a job file of 64 KiB with every character escaped fits."""

MAX_REPLY_BYTES = 2 << 20
"""JSON of a local reply: the status of 256 machines and hundreds of jobs, or a job's log."""
