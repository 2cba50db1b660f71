"""Is a data file one that a job can train on? A process that may load numpy answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from meshd.core.errors import FailureError, UsageError

LIMIT_S = 60.0
"""Reading a gigabyte from a disk takes ten seconds, and loading the libraries ten on a bad day."""

COMMAND = (sys.executable, "-P", "-m", "meshd.worker.inspect")


@dataclass(frozen=True)
class DataFacts:
    """What a good file holds: the shape of a sample as networks see it, and counts."""

    input: tuple[int, ...]
    classes: int
    train: int
    test: int


async def inspect_data(
    path: Path, command: tuple[str, ...] = COMMAND, limit_s: float = LIMIT_S
) -> DataFacts:
    """Run the inspection.

    Raises:
        UsageError: the file is not what a job needs; the inspector's own line.
        FailureError: the inspection itself failed or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        str(path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit_s):
            out, err = await process.communicate()
    except TimeoutError:
        raise FailureError(
            f"the data file could not be checked within {limit_s:.0f} s; is the machine overloaded?"
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode == 2:
        lines = err.decode(errors="replace").strip().splitlines()
        told = lines[-1] if lines else "the data file cannot be used"
        # Its name here is ours, and nothing to whoever sent it.
        raise UsageError(told.replace(f" {path.name}:", ":"))
    try:
        facts = json.loads(out)
        shape = tuple(facts["input"])
        return DataFacts(shape, facts["classes"], facts["train"], facts["test"])
    except (ValueError, TypeError, KeyError):
        words = err.decode(errors="replace").strip().splitlines()
        last = words[-1] if words else f"exit code {process.returncode}"
        raise FailureError(f"the data file could not be checked: {last}") from None
