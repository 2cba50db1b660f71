"""`ip` and `tc`, run with argument lists; what they refuse becomes one line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from meshd.core.errors import FailureError, NotConfiguredError, PermissionRefusedError

TIMEOUT_S = 30.0
"""Each call is a few netlink messages; a kernel that is busy taking namespaces down may let one
wait for seconds."""


def call(command: Sequence[str]) -> str:
    """Run to the end and return what it prints.

    Raises:
        NotConfiguredError: the program is not installed.
        PermissionRefusedError: the kernel does not allow it here.
        FailureError: anything else, in the program's own words.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise NotConfiguredError(f"there is no `{command[0]}` here; install iproute2") from None
    except subprocess.TimeoutExpired:
        raise FailureError(f"`{' '.join(command)}` did not end in {TIMEOUT_S:g} s") from None
    if done.returncode == 0:
        return done.stdout
    words = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
    if "not permitted" in words.lower() or "permission denied" in words.lower():
        raise PermissionRefusedError(
            f"not allowed here, even for root: `{' '.join(command)}`: {words}"
        )
    raise FailureError(f"`{' '.join(command)}`: {words}")


def ip(namespace: str, *arguments: str) -> str:
    """`ip` within a namespace."""
    return call(["ip", "-n", namespace, *arguments])


def ip_json(namespace: str, *arguments: str) -> list[dict[str, Any]]:
    """`ip -json` within a namespace."""
    return _objects(call(["ip", "-n", namespace, "-s", "-j", *arguments]))


def tc(namespace: str, *arguments: str) -> str:
    """`tc` within a namespace."""
    return call(["tc", "-n", namespace, *arguments])


def tc_json(namespace: str, *arguments: str) -> list[dict[str, Any]]:
    """`tc -json` within a namespace, with statistics."""
    return _objects(call(["tc", "-n", namespace, "-s", "-j", *arguments]))


def _objects(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text or "[]")
    return found
