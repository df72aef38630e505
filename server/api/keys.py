"""API keys: a file of names, each with the hash of a key, roles and quotas. Read again when the file changes.

[gallery]
sha256 = "..."                  # of the key: printf %s KEY | sha256sum
roles = ["infer"]               # of infer, control, metrics
requests_per_minute = 600       # quotas are optional
images_per_minute = 5_000
pixels_per_minute = 500_000_000
"""

import hashlib
import hmac
import logging
import re
import time
import tomllib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from artifact.repository import ArtifactError, read_text
from server.api.quotas import Quotas
from server.api.tls import signature_of
from server.errors import PermissionDenied, StartError, Unauthenticated

# The file is looked at when a key is used, at most so often.
LOOK_S = 1.0
# Keys that the file has no more, but may have again.
MAX_GONE = 1000

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger(__name__)


class Role(StrEnum):
    """What a key is for."""

    INFER = "infer"
    CONTROL = "control"
    METRICS = "metrics"


class Key(BaseModel):
    """One key as the file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    roles: frozenset[Role] = Field(min_length=1)
    requests_per_minute: int | None = Field(None, ge=1)
    images_per_minute: int | None = Field(None, ge=1)
    pixels_per_minute: int | None = Field(None, ge=1)


class Caller:
    """Who has shown a key. Stays the same whatever the file says of that key, also while it does not have it."""

    def __init__(self, name: str, key: Key, look: Callable[[], None]) -> None:
        """`look`: at the file, before each message of a stream."""
        self._look = look
        self.quotas = Quotas(self._check)
        self.renew(name, key)

    def renew(self, name: str, key: Key) -> None:
        """Takes over what the file says now; what was used stays used."""
        self.name, self.key, self.is_known = name, key, True
        self.quotas.limit(name, key.requests_per_minute, key.images_per_minute, key.pixels_per_minute)

    def check_role(self, role: Role) -> None:
        """Raises PermissionDenied if the key lacks it."""
        if role not in self.key.roles:
            roles = ", ".join(sorted(self.key.roles))
            raise PermissionDenied(f"key {self.name!r} lacks the role {role}; it has {roles}")

    def _check(self) -> None:
        """Before each message of a stream: as for a new call."""
        self._look()
        if not self.is_known:
            raise Unauthenticated(f"key {self.name!r} is no longer known")
        self.check_role(Role.INFER)


class KeyFile:
    """The keys of a file. Loop thread only."""

    def __init__(self, path: Path) -> None:
        """Reads it.

        Raises:
            StartError: it cannot be read, or something in it is not as it should be.
        """
        self._path = path
        self._looked_at = time.monotonic()
        self._signature = signature_of(path)
        self._callers: dict[str, Caller] = {}  # by sha256
        self._gone: dict[str, Caller] = {}  # those that have left last at the end
        self._take(read_keys(path))

    def __len__(self) -> int:
        return len(self._callers)

    def find(self, authorization: str | None) -> Caller:
        """Who sends this header. Takes the same time whichever key is right, and which part of it is wrong.

        Raises:
            Unauthenticated: there is no key in it, or none that the file has.
        """
        self._look()
        if not authorization:
            raise Unauthenticated("this server needs an API key: send the header 'authorization: Bearer KEY'")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("the header 'authorization' must be 'Bearer KEY'")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for sha256, caller in self._callers.items():
            if hmac.compare_digest(digest, sha256):
                found = caller
        if found is None:
            raise Unauthenticated("unknown API key")
        return found

    def _look(self) -> None:
        """Reads the file again if it changed; keeps the keys if it cannot be read."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        signature = signature_of(self._path)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            keys = read_keys(self._path)
        except StartError as error:
            log.error("API keys not read; those read before stay in use", extra={"fields": {"reason": str(error)}})
            return
        self._take(keys)
        log.info("API keys read again", extra={"fields": {"keys": len(keys)}})

    def _take(self, keys: dict[str, Key]) -> None:
        """Takes over what the file says. A key that has another name, or is back, is the same caller as before."""
        before = self._gone | self._callers
        self._callers = {}
        for name, key in keys.items():
            caller = before.pop(key.sha256, None)
            if caller is None:
                caller = Caller(name, key, self._look)
            else:
                caller.renew(name, key)
            self._callers[key.sha256] = caller
        for caller in before.values():
            caller.is_known = False
        self._gone = dict(list(before.items())[-MAX_GONE:])


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of a file by name; at least one.

    Raises:
        StartError: it cannot be read, or something in it is not as it should be; never shows what is in it.
    """
    try:
        text = read_text(path)
        tables = tomllib.loads("" if text is None else text)
    except ArtifactError as error:
        raise StartError(f"api_keys: {path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise StartError(f"api_keys: {path} is not TOML: {error}") from None
    if text is None:
        raise StartError(f"api_keys: {path}: No such file")
    keys = {name: _read_key(f"api_keys: {path}: {name!r}", name, table) for name, table in tables.items()}
    if not keys:
        raise StartError(f"api_keys: {path} has no key")
    if len({key.sha256 for key in keys.values()}) < len(keys):
        raise StartError(f"api_keys: {path}: two names have the same key")
    return keys


def _read_key(where: str, name: str, table: object) -> Key:
    if not _NAME.fullmatch(name):
        raise StartError(f"{where}: a name is 1 to 64 letters, digits, '.', '_' and '-'")
    try:
        return Key.model_validate(table)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise StartError(f"{where}: {'; '.join(problems)}") from None
