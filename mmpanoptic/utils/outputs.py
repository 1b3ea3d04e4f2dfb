"""What a run writes: files that are whole or not there, and one writer at a time."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from .errors import UserError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write a file to, which takes the place of ``path`` once all of it is on the disk.

    It lies beside ``path`` under a name that begins with a dot. If anything fails, it is removed and ``path`` is what
    it was.

    Raises:
        UserError: If it cannot be written, on a full disk for instance.
    """
    path = Path(path)
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        yield unfinished
        with open(unfinished, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        kept = f'; {path} is what it was' if path.exists() else ''
        raise UserError(f'{path} cannot be written ({error.strerror or error}){kept}') from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of ``path`` at the end, see :func:`replacing`."""
    with replacing(path) as unfinished, open(unfinished, 'wb') as file:
        yield file


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file by way of :func:`whole_file`; text as UTF-8."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def sole_writer(path: str | Path, what: str) -> Iterator[None]:
    """Be the only process that writes to a file or folder; the lock ends with the process, however that ends.

    The lock is a file beside ``path``, ``.NAME.lock``, that stays there. Where files cannot be made beside it, it lies
    in the folder.

    Args:
        path: The file or folder, which need not exist.
        what: What to call it in an error: an argument, a config key or a flag.

    Raises:
        UserError: If another process writes to it.
    """
    path = Path(os.path.realpath(path))
    beside = path.parent if not path.is_dir() or os.access(path.parent, os.W_OK) else path
    lock = FileLock(beside / f'.{path.name}.lock')
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f'{what}: another process writes to {path}: wait for it, or choose another place') from None
    except NotImplementedError:
        warnings.warn(f'{beside} is on a file system without locks: start one run at a time there', stacklevel=2)
    except OSError as error:
        raise UserError(f'{what}: {lock.lock_file} cannot be made ({error.strerror or error})') from None
    try:
        yield
    finally:
        lock.release()
