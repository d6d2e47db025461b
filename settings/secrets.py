"""Secrets that sign, and secrets that no log may show."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_urlsafe

from pydantic import BaseModel, SecretStr

from settings.settings import Settings


def secrets_in(settings: BaseModel) -> Iterator[str]:
    """Every secret value, so that it can be redacted."""
    for _, value in settings:
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from secrets_in(value)


def other_secrets_of(settings: Settings) -> tuple[bytes, ...]:
    """Keys whose signatures are accepted beside those of `secret_of`."""
    other = settings.other_secret
    return () if other is None else (other.get_secret_value().encode(),)


def secret_of(settings: Settings) -> bytes:
    """The key that signs cursors and URLs. Development stores one in the data folder."""
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    return load_or_create_secret(settings.data_dir / "secret", lambda: token_urlsafe(32).encode())


def load_or_create_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a file that only its owner can read; the file is created if it is missing.

    If two processes create it at the same time, the first one wins, and both return its content.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # Written under another name first, so that no reader sees half a key.
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            Path(draft).unlink()
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
    return path.read_bytes()
