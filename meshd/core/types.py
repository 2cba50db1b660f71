"""Names for the plain values that cross module borders, each with its unit or range."""

from __future__ import annotations

from typing import NewType

MachineKey = NewType("MachineKey", str)
"""A machine's CURVE public key, z85 text of 40 characters: the machine's identity."""

JobId = NewType("JobId", str)
"""32 lower-case hexadecimal digits: BLAKE2b-128 over the job's immutable part."""

BlobId = NewType("BlobId", str)
"""64 lower-case hexadecimal digits: BLAKE2b-256 over a blob's manifest."""

Generation = NewType("Generation", int)
"""Number of a job's ring, from 1; every change of members is a new, higher one."""

Step = NewType("Step", int)
"""Number of committed training steps, from 0."""

Rank = NewType("Rank", int)
"""A member's place in the ring order, 0 <= rank < size."""
