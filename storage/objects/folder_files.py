"""Files of objects in a folder, by their keys. Everything here blocks.

An object is complete or does not exist, and never changes. No symbolic link below the folder is
followed.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Self

from domain.errors import ObjectMissing, ObjectTooLarge
from domain.object_keys import is_key
from domain.ports.objects import StoredObject

LEFTOVER_PREFIX: Final = ".put-"
"""The beginning of the names of files that a killed process has left half written. Nothing reads
them; after an hour they can be removed.
"""
_READ_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderFiles:
    """The files of an object store. The folder is made when the first object is stored. The caller
    has checked the keys.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, data: bytes) -> None:
        with ExitStack() as stack:
            put = self.begin(stack, key, False)
            put.file.write(data)
            put.finish(True)

    def begin(self, stack: ExitStack, key: str, findable: bool) -> "NewFile":
        """Open a file for an object. The object exists once the file is finished within
        the stack. Where it is findable, nobody else may write this object at the same time.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder, name = stack.enter_context(self._parent(key, create=True))
        suffix = name if findable else secrets.token_hex(8)
        return stack.enter_context(NewFile.open(folder, name, LEFTOVER_PREFIX + suffix))

    def get(self, key: str, max_bytes: int) -> bytes:
        with self._file(key) as file:
            size = os.fstat(file).st_size
            if size > max_bytes:
                raise ObjectTooLarge(f"the object has {size} bytes")
            return _read_exactly(file, 0, size)

    def size(self, key: str) -> int:
        with self._file(key) as file:
            return os.fstat(file).st_size

    def read(self, key: str, start: int, count: int) -> bytes:
        with self._file(key) as file:
            return _read_exactly(file, start, count)

    def delete(self, keys: Sequence[str], prefix: str = "") -> None:
        for key in keys:
            with (
                suppress(ObjectMissing),
                self._parent(key) as (folder, name),
                _translate_missing(),
            ):
                os.unlink(prefix + name, dir_fd=folder)

    def list(self, folder: str) -> list[StoredObject]:
        found: list[StoredObject] = []
        with (
            suppress(ObjectMissing),
            self._parent(f"{folder}/") as (opened, _),
            os.scandir(opened) as entries,
        ):
            for entry in entries:
                key = f"{folder}/{entry.name}"
                if not is_key(key) or not entry.is_file(follow_symlinks=False):
                    continue
                with suppress(FileNotFoundError):  # It has just been deleted.
                    info = entry.stat(follow_symlinks=False)
                    modified_at = datetime.fromtimestamp(info.st_mtime, UTC)
                    found.append(StoredObject(key, info.st_size, modified_at))
        return found

    @contextmanager
    def _file(self, key: str) -> Iterator[int]:
        """The object's file, open. Raise `ObjectMissing` for anything that `put` cannot
        have made.
        """
        with self._parent(key) as (folder, name):
            with _translate_missing():
                file = os.open(name, _READ_FILE, dir_fd=folder)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise ObjectMissing("there is no such object")
                yield file
            finally:
                os.close(file)

    @contextmanager
    def _parent(self, key: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """The folder of the object's file, open, and the file's name in it.

        Each step starts from the open folder of the step before, not from a path: nobody can put a
        symbolic link into a place that has been checked already.
        """
        *folders, name = key.split("/")
        try:
            # The store's own folder may be a symbolic link: the operator decides that.
            folder = os.open(self._folder, _READ_FOLDER & ~os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise ObjectMissing("nothing has been put yet") from error
        try:
            for step in folders:
                if create and _make_folder(step, within=folder):
                    os.fsync(folder)
                with _translate_missing():
                    inner = os.open(step, _READ_FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder, name
        finally:
            os.close(folder)


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that is being written, and will become an object's."""

    file: BinaryIO
    _temporary: str
    _name: str
    _folder: int

    @classmethod
    @contextmanager
    def open(cls, folder: int, name: str, temporary: str) -> Iterator[Self]:
        # In the same folder, so that the rename stays within one file system and is atomic.
        try:
            with os.fdopen(os.open(temporary, _NEW_FILE, 0o600, dir_fd=folder), "wb") as file:
                yield cls(file, temporary, name, folder)
        finally:
            with suppress(OSError):  # It has been renamed already.
                os.unlink(temporary, dir_fd=folder)

    def finish(self, replace: bool) -> bool:
        """Give the file its name. Return False if there is such an object, which must not be
        replaced.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        if replace:
            os.replace(
                self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder
            )
        elif not _move_without_replacing(self._temporary, self._name, within=self._folder):
            return False
        # The name has to survive a power cut as well as the bytes: a record will refer to it.
        os.fsync(self._folder)
        return True


def _make_folder(name: str, *, within: int) -> bool:
    try:
        os.mkdir(name, 0o700, dir_fd=within)
    except FileExistsError:
        return False
    return True


def _move_without_replacing(old: str, new: str, *, within: int) -> bool:
    try:
        # A second name for the file: unlike a rename, it never replaces another file.
        os.link(old, new, src_dir_fd=within, dst_dir_fd=within, follow_symlinks=False)
    except FileExistsError:
        return False
    finally:
        os.unlink(old, dir_fd=within)
    return True


@contextmanager
def _translate_missing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # A symbolic link, or something else in place of a folder, counts as missing.
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            raise ObjectMissing("there is no such object") from error
        raise


def _read_exactly(file: int, start: int, count: int) -> bytes:
    parts = []
    while count > 0:
        part = os.pread(file, count, start)
        if not part:
            raise OSError(errno.EIO, "the object is shorter than it was")
        parts.append(part)
        start += len(part)
        count -= len(part)
    return b"".join(parts)
