"""Every error that a user or a peer can cause: whose fault it is, and the exit code it ends with.

A message is one line: what is wrong, and what to do. Exit codes follow systemd's use of the LSB
init script codes (see `man 5 systemd.exec`, "Process exit codes"): 0 ok, 1 failure, 2 usage,
4 no permission, 6 not configured, 7 not running.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a meshd command's exit status means."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NO_PERMISSION = 4
    NOT_CONFIGURED = 6
    NOT_RUNNING = 7


class MeshdError(Exception):
    """Base of all errors with a one-line message for a person; never raised itself."""

    exit_code: ExitCode = ExitCode.FAILURE

    def __init__(self, message: str) -> None:
        if type(self) is MeshdError:
            raise TypeError("MeshdError is abstract; raise one that says whose fault it is")
        super().__init__(message)


class UsageError(MeshdError):
    """The user asked for something that cannot be: a wrong job file, value or name."""

    exit_code = ExitCode.USAGE


class FailureError(MeshdError):
    """What was asked is right, but could not be done here and now."""


class PermissionRefusedError(MeshdError):
    """The user or the file's mode does not allow it."""

    exit_code = ExitCode.NO_PERMISSION


class NotConfiguredError(MeshdError):
    """Something that must be set up first is missing or broken: a key, a folder, a roster."""

    exit_code = ExitCode.NOT_CONFIGURED


class NotRunningError(MeshdError):
    """No daemon answers."""

    exit_code = ExitCode.NOT_RUNNING


class RemoteProtocolError(MeshdError):
    """A peer sent what the protocol forbids; `code` is what to answer and count.

    The codes are those of `proto/README.md`, one sentence each.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LocalProtocolError(MeshdError):
    """We were about to send what the protocol forbids: a defect of ours, never the peer's."""
