"""The two formats of ``torch.save``, read without torch's own loader: its old one follows links and module sources.

Formats: an archive of a pickle and one record for each storage (torch 1.6 and later), stored without compression; and,
before that, some pickles in a row and then the storages.
"""

import zipfile
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .closed_pickle import RefusedError, Storage, Unpickler, dtype_of, to_plain

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_plain(file: BinaryIO) -> Any:
    """Content of a checkpoint, with its tensors on the CPU.

    Raises:
        RefusedError: If it holds more than :data:`~.closed_pickle.ALLOWED`.
        Exception: Of many kinds, if it is damaged.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return to_plain(_read_archive(archive))
    file.seek(0)
    return to_plain(_read_old(file))


def _read_archive(archive: zipfile.ZipFile) -> Any:
    records = {info.filename: info for info in archive.infolist()}
    folder = next(iter(records)).split('/')[0]
    if any(name.endswith('/constants.pkl') for name in records):
        raise RefusedError('a TorchScript program')
    archive.fp.seek(0, 2)
    # So many small records could be one and the same large one, or a large one of zeros that is stored compressed.
    if sum(info.file_size for info in records.values()) > archive.fp.tell():
        raise RefusedError('records that are larger than the file')
    if f'{folder}/byteorder' in records and archive.read(f'{folder}/byteorder') != b'little':
        raise RefusedError('numbers in big-endian order')
    storages: dict[str, Storage] = {}

    def storage_of(pid: tuple) -> Storage:
        storage_class, key, *_ = pid
        if key not in storages:
            storages[key] = Storage(dtype_of(storage_class))
            # Reading a whole record compares it with its checksum.
            storages[key].data = _numbers(archive.read(f'{folder}/data/{key}'), storages[key].dtype)
        if storages[key].dtype != dtype_of(storage_class):
            raise RefusedError('a storage of two types')
        return storages[key]

    with archive.open(f'{folder}/data.pkl') as file:
        return Unpickler(file, storage_of).load()


def _read_old(file: BinaryIO) -> Any:
    storages: dict[str, tuple[Storage, int]] = {}

    def storage_of(pid: tuple) -> Storage:
        storage_class, key, _, count, view = (*pid, None)[:5]
        if view is not None:
            raise RefusedError('a view of a storage, of torch before 0.4')
        storage, _ = storages.setdefault(key, (Storage(dtype_of(storage_class)), count))
        return storage

    def read() -> Any:
        return Unpickler(file, storage_of).load()

    if read() != _MAGIC or read() != _PROTOCOL:
        raise ValueError('no checkpoint')
    if not read()['little_endian']:
        raise RefusedError('numbers in big-endian order')
    content = read()
    for key in read():
        storage, count = storages[key]
        num_bytes = count * storage.dtype.itemsize
        if int.from_bytes(file.read(8), 'little') != count:
            raise ValueError('a storage of another size')
        data = file.read(num_bytes)
        if len(data) != num_bytes:
            raise EOFError
        storage.data = _numbers(data, storage.dtype)
    return content


def _numbers(data: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
