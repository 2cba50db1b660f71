"""A machine's transport key pair: CURVE (Curve25519), the machine's identity on every link.

The file `transport.key` is ours rather than `zmq.auth.create_certificates`': that one leaves the
secret with mode 0644 under the usual umask. Written once, 0600, atomically; two daemons that start
at the same time on a new folder end with the same pair.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from meshd.core.errors import NotConfiguredError
from meshd.core.types import MachineKey
from meshd.net.files import read_trusted, write_atomically
from meshd.wire.kinds import SHAPES

KEY_FILE = "transport.key"
_HEAD = "# meshd's transport key. Whoever can read this file can be this machine. Keep it 0600.\n"


@dataclass(frozen=True)
class KeyPair:
    """Both keys as z85 text of 40 characters (ZeroMQ RFC 32); the secret stays out of `repr`."""

    public: MachineKey
    secret: str = field(repr=False)


def is_key(text: str) -> bool:
    """Whether text has the shape of a CURVE key."""
    return re.fullmatch(SHAPES["key"], text) is not None


def load_or_create_keys(folder: Path) -> KeyPair:
    """The folder's key pair, made on first use.

    Raises:
        NotConfiguredError, PermissionRefusedError: as for `load_keys`.
        FailureError: the file cannot be written.
    """
    path = folder / KEY_FILE
    if not path.exists() and not path.is_symlink():
        public, secret = (key.decode() for key in zmq.curve_keypair())
        text = f'{_HEAD}public = "{public}"\nsecret = "{secret}"\n'
        write_atomically(path, text.encode(), 0o600, replace=False)
    return load_keys(folder)


def load_keys(folder: Path) -> KeyPair:
    """Read the folder's key pair.

    Raises:
        NotConfiguredError: no key file, or a broken one.
        PermissionRefusedError: others may read or write it, or it is not ours.
    """
    path = folder / KEY_FILE
    try:
        text = read_trusted(path, 0o077)
    except FileNotFoundError:
        raise NotConfiguredError(f"{path}: no key yet; `meshd run` makes one") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        table = {}
    public, secret = table.get("public"), table.get("secret")
    if not (isinstance(public, str) and isinstance(secret, str) and len(table) == 2):
        raise _broken(path)
    # Both must be checked: a public key that is not the secret's would name another machine.
    if not is_key(secret) or zmq.curve_public(secret.encode()).decode() != public:
        raise _broken(path)
    return KeyPair(MachineKey(public), secret)


def _broken(path: Path) -> NotConfiguredError:
    return NotConfiguredError(
        f"{path}: broken; restore it, or remove it and trust this machine's new key elsewhere"
    )
