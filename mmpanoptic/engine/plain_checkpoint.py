"""Reading of both formats of ``torch.save`` without torch's loader, whose old format follows links and module sources.

Formats: since torch 1.6, an archive of a pickle and one record for each storage, without compression; before that, some
pickles in a row and then the storages.
"""

import io
import zipfile
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .closed_pickle import DamagedError, RefusedError, Storage, Unpickler, dtype_of
from .pickle_program import check_program
from .plain_values import Memo, to_plain

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_SPENT = 2  # bytes that may be made per byte of a pickle: for a text, and then for an array


def is_archive(file: BinaryIO) -> bool:
    """Whether a file has the new format; the file is rewound.

    Raises:
        DamagedError: If it begins as an archive but is none.
    """
    begins_so, found = file.read(2) == b'PK', zipfile.is_zipfile(file)
    if begins_so and not found:
        raise DamagedError('an archive without its end')
    file.seek(0)
    return found


def is_program(file: BinaryIO) -> bool:
    """Whether an archive holds a TorchScript program; the file is rewound."""
    with zipfile.ZipFile(file) as archive:
        found = any(name.endswith('/constants.pkl') for name in archive.namelist())
    file.seek(0)
    return found


def check_records(file: BinaryIO) -> None:
    """Compare every record of an archive with its checksum; the file is rewound.

    Raises:
        DamagedError: If one differs.
    """
    with zipfile.ZipFile(file) as archive:
        if (name := archive.testzip()) is not None:
            raise DamagedError(f'the record {name} has another checksum')
    file.seek(0)


def read_plain(file: BinaryIO) -> Any:
    """Content of a checkpoint, with its tensors on the CPU.

    Raises:
        RefusedError: If it holds more than :data:`~.closed_pickle.ALLOWED`.
        Exception: Of many kinds, if it is damaged.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return _read_archive(archive)
    file.seek(0)
    return _read_old(io.BytesIO(file.read()))


def _read_archive(archive: zipfile.ZipFile) -> Any:
    records = {info.filename: info for info in archive.infolist()}
    folder = next(iter(records), '').split('/')[0]
    assert archive.fp is not None  # the archive is open
    archive.fp.seek(0, 2)
    # Otherwise many records could share the same bytes, or a record of zeros could be compressed.
    if sum(info.file_size for info in records.values()) > archive.fp.tell():
        raise DamagedError('records that are larger than the file')
    if f'{folder}/byteorder' in records and archive.read(f'{folder}/byteorder') != b'little':
        raise DamagedError('numbers in big-endian order')
    storages: dict[str, Storage] = {}

    def storage_of(pid: tuple) -> Storage:
        storage_class, key, *_ = pid
        if key not in storages:
            storages[key] = Storage(dtype_of(storage_class))
            # Reading a whole record compares it with its checksum.
            storages[key].data = _numbers(archive.read(f'{folder}/data/{key}'), storages[key].dtype)
        if storages[key].dtype != dtype_of(storage_class):
            raise DamagedError('a storage of two types')
        return storages[key]

    data = archive.read(f'{folder}/data.pkl')
    file = io.BytesIO(data)
    if check_program(file, len(data)) != len(data):
        raise DamagedError('a pickle that ends early')
    return to_plain(Unpickler(file, storage_of).load(), Memo(_SPENT * len(data)))


def _read_old(file: io.BytesIO) -> Any:
    storages: dict[str, tuple[Storage, int]] = {}
    size = len(file.getbuffer())

    def storage_of(pid: tuple) -> Storage:
        storage_class, key, _, count, view = (*pid, None)[:5]
        if view is not None:
            raise RefusedError('a view of a storage, of torch before 0.4')
        storage, _ = storages.setdefault(key, (Storage(dtype_of(storage_class)), count))
        return storage

    def read() -> Any:
        check_program(file, size)
        return Unpickler(file, storage_of).load()

    if read() != _MAGIC or read() != _PROTOCOL:
        raise ValueError('no checkpoint')
    if not read()['little_endian']:
        raise DamagedError('numbers in big-endian order')
    content = read()
    for key in read():
        storage, count = storages[key]
        num_bytes = count * storage.dtype.itemsize
        if int.from_bytes(file.read(8), 'little') != count:
            raise DamagedError('a storage of another size')
        numbers = file.read(num_bytes)
        if len(numbers) != num_bytes:
            raise EOFError
        storage.data = _numbers(numbers, storage.dtype)
    return to_plain(content, Memo(_SPENT * size))


def _numbers(data: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
