"""Reading of files by name from a folder, or from a zip as COCO's server takes it: https://cocodataset.org/#upload"""

import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from mmpanoptic.utils import UserError

from .images import max_pixels
from .panoptic_json import parse_json, read_json

_LARGEST_JSON = 2**31  # bytes; in a zip a file can be a thousand times larger than it looks
_HEADER = 2**16  # bytes that a PNG may have beside its pixels


def is_zip(path: str | Path) -> bool:
    """Whether a path names a zip file, by its suffix."""
    return str(path).lower().endswith('.zip')


class FileSource:
    """Files of a folder, or of any folder in a zip; picklable, and usable in several processes.

    Args:
        path: The folder or the zip.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._zip: zipfile.ZipFile | None = None
        self._process = 0
        self._members: dict[str, list[zipfile.ZipInfo]] = {}

    def __reduce__(self) -> tuple:
        """Keep the path only: every process opens the zip for itself."""
        return type(self), (self.path,)

    def place(self, name: str) -> str:
        """What to call a file in an error."""
        return os.path.join(self.path, name)

    def read(self, name: str, named_by: str, error: type[UserError] = UserError, limit: int | None = None) -> bytes:
        """Contents of a file.

        Args:
            name: Its name; in a zip the folder that it lies in does not matter.
            named_by: The file that names it, for the error.
            error: The type of error to raise.
            limit: Largest size of a file from a zip, in bytes after unpacking; None: the size of a PNG with the most
                pixels that are allowed.

        Raises:
            UserError: Of the type ``error``, if there is no such file, it cannot be read or is larger, or a zip holds
                several files of this name.
        """
        try:
            if not is_zip(self.path):
                with open(self.place(name), 'rb') as file:
                    return file.read()
            return self._read_member(name, named_by, error, 4 * max_pixels() + _HEADER if limit is None else limit)
        except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as problem:
            reason = (
                getattr(problem, 'strerror', None) or problem
            )  # a ValueError: the name is none that a file can have
            raise error(f'{self.place(name)!r} cannot be read ({reason}): {named_by} names it') from None

    def json_name(self) -> str:
        """The only JSON file of the zip.

        Raises:
            UserError: If there is none, or several.
        """
        try:
            self._open()
        except (OSError, ValueError, zipfile.BadZipFile) as problem:
            reason = getattr(problem, 'strerror', None) or problem
            raise UserError(f'{self.path} cannot be read as a zip file ({reason}): fetch or write it again') from None
        found = [name for name in self._members if name.lower().endswith('.json')]
        if len(found) != 1 or len(self._members[found[0]]) != 1:
            listed = f' ({", ".join(sorted(found)[:5])})' if found else ''
            raise UserError(
                f'{self.path} holds {len(found)} JSON files{listed}, and results have one: unpack it and name the file'
            )
        return found[0]

    def _open(self) -> zipfile.ZipFile:
        if self._zip is None or self._process != os.getpid():  # forked processes would share one position in the file
            self._zip, self._process, self._members = zipfile.ZipFile(self.path), os.getpid(), {}
            for member in self._zip.infolist():
                if not member.is_dir() and not member.filename.startswith('__MACOSX/'):
                    self._members.setdefault(PurePosixPath(member.filename).name, []).append(member)
        return self._zip

    def _read_member(self, name: str, named_by: str, error: type[UserError], limit: int) -> bytes:
        file = self._open()
        members = self._members.get(PurePosixPath(name).name, [])
        if len(members) > 1:
            members = [member for member in members if member.filename == name]
        if len(members) != 1:
            raise error(f'{self.path} holds no file, or several, of the name {name}: {named_by} names it')
        if members[0].file_size > limit:
            raise error(f'{self.place(name)} has {members[0].file_size} bytes, and {limit} are allowed')
        return file.read(members[0])


def read_json_of(path: str | Path) -> dict:
    """Load a JSON file, or the only JSON file of a zip.

    Raises:
        UserError: See :func:`~.panoptic_json.read_json` and :meth:`FileSource.json_name`.
    """
    if not is_zip(path):
        return read_json(str(path), remedy="name a JSON in COCO's panoptic format, or a zip with one in it")
    source = FileSource(path)
    name = source.json_name()
    return parse_json(source.read(name, str(path), limit=_LARGEST_JSON), source.place(name))


def default_folder(path: str | Path) -> str:
    """The default folder of a JSON's PNGs: the zip itself, or the folder of the JSON's name without its suffix."""
    return str(path) if is_zip(path) else os.path.splitext(str(path))[0]
