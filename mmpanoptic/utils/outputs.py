"""Writing of files and folders, whole or not at all, by one process at a time."""

import contextlib
import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from .errors import UserError
from .paths import require_folder

MARKER = '.mmpanoptic'
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class WriteError(UserError):
    """The file or folder ``path`` cannot be written, for a ``reason``; what was there before is kept."""

    errno: int | None = None  # as an OSError that was made without one

    def __init__(self, path: str | os.PathLike, reason: str) -> None:
        kept = f'; {path} is what it was' if os.path.lexists(path) else ''
        super().__init__(f'{path} cannot be written ({reason}){kept}')
        self.filename, self.strerror = path, reason  # as an OSError calls them

    def __reduce__(self) -> tuple:
        """See :meth:`UserError.__reduce__`."""
        return type(self), (self.filename, self.strerror)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a new file for writing, which replaces ``path`` once all of it is on the disk.

    Until then the new file lies beside ``path``, under a name that begins with a dot. If anything fails, the new file
    is removed and ``path`` is unchanged. The next :func:`sole_writer` of ``path`` removes what a killed process left. A
    device or a pipe is written to directly.

    Raises:
        WriteError: If it cannot be written, on a full disk for instance.
    """
    place = Path(os.path.realpath(path))
    replaceable = place.is_file() or not place.exists()
    unfinished = _part_of_process(place) if replaceable else place
    try:
        with open(unfinished, 'wb') as file:
            yield file
            file.flush()
            if replaceable:
                os.fsync(file.fileno())
        if replaceable:
            os.replace(unfinished, place)
            _sync(place.parent)
    except OSError as error:
        raise WriteError(path, error.strerror or str(error)) from error
    finally:
        if replaceable:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file by way of :func:`whole_file`; text as UTF-8."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def sole_writer(path: str | Path, what: str) -> Iterator[None]:
    """Be the only process that writes to a file or folder; the lock ends with the process, however that ends.

    The lock is the file ``.NAME.lock`` beside ``path``, which stays there. If ``path`` is a folder and no file can be
    made beside it, the lock lies in the folder. Unfinished files that killed writers left beside ``path`` are removed.

    Args:
        path: The file or folder, which need not exist.
        what: What to call it in an error: an argument, a config key or a flag.

    Raises:
        UserError: If another process writes to it.
    """
    from filelock import FileLock, Timeout  # results are written without it (mmpanoptic.results)

    path = Path(os.path.realpath(path))
    beside = path.parent if not path.is_dir() or os.access(path.parent, os.W_OK) else path
    lock = FileLock(beside / f'.{path.name}.lock')
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not os.path.exists(lock.lock_file):  # as in /proc, where nothing can be made
            raise UserError(f'{what}: {path} cannot be made') from None
        raise UserError(f'{what}: another process writes to {path}: wait for it, or choose another place') from None
    except NotImplementedError:
        warnings.warn(f'{beside} is on a file system without locks: start one run at a time there', stacklevel=2)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f'{what}: {path} cannot be written to: {lock.lock_file} cannot be made ({reason})') from None
    try:
        if lock.is_locked:
            _remove_parts(path)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def whole_folder(path: str | Path, maker: str, what: str, index: str | Path | None = None) -> Iterator[Path]:
    """Make a new folder, which replaces ``path`` once all of it is on the disk; be its :func:`sole_writer`.

    The new folder lies beside ``path``, under a name that begins with a dot. When it is complete, ``path`` is moved
    aside, the new folder takes its name, and the old folder is removed. If anything fails, ``path`` is unchanged. If
    the process is killed between the two moves, the old folder is ``.NAME.old`` until the next run moves it back.

    Only a folder that the same maker made is replaced. The file ``.mmpanoptic`` in it names the maker and lists the
    files.

    Args:
        path: The folder. It need not exist; folders above it are made.
        maker: Who makes it, such as 'tools/predict.py'.
        what: What to call the folder in an error: an argument, a config key or a flag.
        index: A file that belongs to the folder and is replaced together with it. The caller writes its content to
            :func:`part_of` ``index``.

    Yields:
        The folder to fill, empty.

    Raises:
        UserError: If another process writes to it, it holds anything that ``maker`` did not make, or it is the current
            folder.
        WriteError: If it cannot be written, on a full disk for instance.
    """
    path = Path(os.path.realpath(path))
    if path in (here := Path.cwd(), *here.parents):
        raise UserError(f'{what}: {path} is the current folder or holds it, and would be moved: name another one')
    if _is_mounted(path):
        raise UserError(f'{what}: {path} is a mount point and cannot be replaced: name a folder in it')
    require_folder(str(path.parent), what)
    with contextlib.ExitStack() as locks:
        locks.enter_context(sole_writer(path, what))
        if index is not None:
            index = Path(os.path.realpath(index))
            locks.enter_context(sole_writer(index, what))
        _settle(path, index)
        check_replaceable(path, maker, what)
        if _old_of(path).exists():
            raise UserError(f'{what}: {_old_of(path)} is in the way of replacing {path}: move it away')
        staged = _part_of_process(path)
        try:
            staged.mkdir()
            yield staged
            _swap(staged, path, maker, index)
        except (OSError, WriteError) as error:
            written = tuple(str(place) for place in (staged, path, index and part_of(index)) if place)
            if not str(error.filename).startswith(written) and (error.filename or error.errno not in _FULL):
                raise  # from a file that is read, or written elsewhere
            raise WriteError(path, error.strerror or str(error)) from error
        finally:
            _settle(path, index)


def remove_whole(folder: Path) -> None:
    """Rename a folder, then delete it; the next call or :func:`sole_writer` deletes the rest after a kill."""
    try:
        folder.rename(_part_of_process(folder))
    except OSError:  # it cannot be renamed, or is not there
        shutil.rmtree(folder, ignore_errors=True)
    _remove_parts(folder)


def check_replaceable(path: str | Path, maker: str, what: str) -> None:
    """Refuse a folder that holds anything that ``maker`` did not make there by :func:`whole_folder`.

    Raises:
        UserError: If it does, or ``path`` is no folder.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise UserError(f'{what}: {path} is no folder: name another one')
    if not any(path.iterdir()):
        return
    way_out = 'move the folder away or name another one'
    try:
        content = json.loads((path / MARKER).read_text())
        made = set(content['files']) if content['made_by'] == maker else None
    except (OSError, ValueError, KeyError, TypeError):
        made = None
    if made is None:
        raise UserError(
            f'{what}: {path} is not empty and its {MARKER}, if any, does not say that {maker} made it (earlier '
            f'versions wrote none): {way_out}'
        )
    if foreign := set(_files_below(path)) - {MARKER} - made:
        raise UserError(f'{what}: {path} holds {min(foreign)}, which {maker} did not make: {way_out}')


def place_image(source: str | Path, place: Path, copy: bool) -> None:
    """Copy a file to another place, or link to it from there; folders above the place are made."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if copy:
        shutil.copyfile(source, place)
    else:
        place.symlink_to(os.path.realpath(source))


def part_of(path: str | Path) -> Path:
    """Where the ``index`` of a :func:`whole_folder` lies until it is complete."""
    path = Path(os.path.realpath(path))
    return path.with_name(f'.{path.name}.part')


def _part_of_process(path: Path) -> Path:
    """Like :func:`part_of`, for this process only: workers of a killed one may write a little longer."""
    return path.with_name(f'.{path.name}.{os.getpid()}.part')


def _old_of(path: Path) -> Path:
    return path.with_name(f'.{path.name}.old')


def _swap(staged: Path, path: Path, maker: str, index: Path | None) -> None:
    """Flush all files to the disk, then give the new folder and its index their names."""
    files = sorted(_files_below(staged))
    (staged / MARKER).write_text(json.dumps(dict(made_by=maker, files=files)))
    folders = [folder for folder, _, _ in os.walk(staged)]
    paths = [staged / name for name in (*files, MARKER)] + folders + ([part_of(index)] if index else [])
    with ThreadPoolExecutor(16) as pool:  # a file system flushes many in about the time of one
        list(pool.map(_sync, paths))
    if (path / MARKER).exists():
        path.rename(_old_of(path))
    elif path.exists():
        path.rmdir()
    staged.rename(path)
    if index is not None:
        os.replace(part_of(index), index)
        _sync(index.parent)
    _sync(path.parent)


def _settle(path: Path, index: Path | None) -> None:
    """Clean up after any outcome: the old folder or the new one stays, whole, and nothing unfinished beside it."""
    old = _old_of(path)
    if (old / MARKER).exists():  # else mmpanoptic did not make it
        indexed = index is None or not part_of(index).exists()
        if indexed and (path / MARKER).exists():
            old.rename(_part_of_process(path))
        elif not path.exists() or not indexed:
            shutil.rmtree(path, ignore_errors=True)
            old.rename(path)
    if index is not None:
        part_of(index).unlink(missing_ok=True)
    _remove_parts(path)


def _remove_parts(path: Path) -> None:
    """Remove unfinished files and folders of any process, see :func:`_part_of_process`."""
    name = re.compile(rf'\.{re.escape(path.name)}\.\d+\.part')
    with contextlib.suppress(OSError):
        for part in [part for part in path.parent.iterdir() if name.fullmatch(part.name)]:
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


def _is_mounted(path: Path) -> bool:
    """Whether ``path`` is a mount point; only the kernel's list shows it for a folder of the same disk."""
    try:
        lines = Path('/proc/self/mountinfo').read_bytes().splitlines()
    except OSError:
        return os.path.ismount(path)
    points = {re.sub(rb'\\(\d{3})', lambda code: bytes([int(code[1], 8)]), line.split()[4]) for line in lines}
    return os.fsencode(path) in points


def _files_below(folder: Path) -> Iterator[str]:
    """Names of all files, and of links to folders, relative to the folder."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from (os.path.relpath(os.path.join(place, name), folder) for name in (*files, *links))


def _sync(path: str | Path) -> None:
    """Flush a file or folder to the disk; some file systems cannot do that with folders."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
