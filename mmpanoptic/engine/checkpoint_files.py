"""Checkpoint files: safe reading of untrusted files, and writing of files for release."""

import hashlib
import io
import json
import os
import re
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlparse

import safetensors.torch
import torch
from mmengine import fileio
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    _get_mmengine_home,
    _process_mmcls_checkpoint,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from torch import Tensor

from mmpanoptic.utils import UserError, require_file, require_folder, sole_writer, write_whole

from . import closed_pickle, plain_checkpoint


class FetchError(UserError):
    """A checkpoint could not be fetched.

    Args:
        message: What could not be fetched, and why.
        source: The caller's name for it, which may be a value of a config.
    """

    def __init__(self, message: str, source: str) -> None:
        super().__init__(message)
        self.source = source

    def __reduce__(self) -> tuple:
        """Keep message and source, see :class:`~mmpanoptic.utils.UserError`."""
        return type(self), (*self.args, self.source)


def read_checkpoint(source: str | os.PathLike, trust: bool = False) -> Any:
    """Read a checkpoint, in any format of ``torch.save`` or as safetensors, with its tensors on the CPU.

    Args:
        source: A file, an address (``https://``, ``s3://`` or any other that mmengine reads), or a name that mmengine
            knows (``open-mmlab://``, ``torchvision://``, ``mmcls://``). Downloads by http are kept in torch's cache.
        trust: Whether to load Python objects too, which can run any code.

    Raises:
        UserError: If there is no such file, it cannot be read or is damaged, or it holds more than tensors and plain
            values and is not trusted.
    """
    source = os.fspath(source)
    fetched = _fetch(_address(source), source)
    # Errors name the file in the cache too, so that it can be removed.
    place = f'{source} ({fetched})' if '://' in source and isinstance(fetched, str) else source
    try:
        with open(fetched, 'rb') if isinstance(fetched, str) else fetched as file:
            content = _read(file, source, place, trust)
    except closed_pickle.RefusedError as refused:
        raise UserError(
            f'{place} holds more than weights and plain values ({refused}), and loading that could run any code: if '
            'you trust the file, load it with trust_checkpoint=True',
            argument='trust_checkpoint',
        ) from None
    except UserError:
        raise
    except OSError as error:
        raise UserError(f'{place} cannot be read: {error.strerror}') from None
    except Exception as error:  # damaged bytes can raise anything
        says_why = isinstance(error, closed_pickle.DamagedError)
        reason = f' ({str(error).splitlines()[0][:120]})' if (says_why or trust) and str(error) else ''
        raise UserError(
            f'{place} is not a checkpoint that torch can read: it is truncated, damaged or of another kind{reason}'
        ) from None
    return content


def _read(file: BinaryIO, source: str, place: str, trust: bool) -> Any:
    """Content of an open file."""
    if source.endswith('.safetensors'):
        return _read_safetensors(file.read())
    is_archive = plain_checkpoint.is_archive(file)
    if is_archive and plain_checkpoint.is_program(file):
        raise UserError(f'{place} is a TorchScript program: save its weights by name (state_dict()) and take those')
    if trust:
        if is_archive:
            plain_checkpoint.check_records(file)
        content = torch.load(file, map_location='cpu', weights_only=False)
    else:
        content = plain_checkpoint.read_plain(file)
    if not is_archive:
        print_log(f'{place} is of an old format without checksums: damage to it would not be noticed', 'current')
    return _process_mmcls_checkpoint(content) if source.startswith('mmcls://') else content


def use_strict_loading(trust: bool = False) -> None:
    """Make mmengine read all checkpoints, from any source, with :func:`read_checkpoint`.

    mmengine's loaders use ``weights_only=False``, at once or when safe loading fails; that runs any code in a file.

    Args:
        trust: See :func:`read_checkpoint`.
    """

    def load_from_checked(filename: str, map_location: Any = None) -> Any:
        content = read_checkpoint(filename, trust)  # the caller moves it to its device
        if isinstance(content, dict) and isinstance(content.get('meta'), dict):
            content['meta'].pop('config', None)  # mmengine runs this text as Python when it resumes
        return content

    CheckpointLoader.register_scheme(list(CheckpointLoader._schemes), load_from_checked, force=True)


def _address(source: str) -> str:
    """The address or path of a checkpoint that is given by name; any other source is returned unchanged."""
    scheme, found, name = source.partition('://')
    names = {
        'open-mmlab': get_external_models,
        'openmmlab': get_external_models,
        'mmcls': get_mmcls_models,
        'torchvision': get_torchvision_models,
        'modelzoo': get_torchvision_models,
    }
    if not found or scheme not in names:
        return source
    try:
        known = names[scheme]()
    except ModuleNotFoundError as error:
        raise UserError(f'{source}: {error}: install it, or give a file or an address') from None
    name = get_deprecated_model_names().get(name, name)
    if name not in known:
        raise UserError(f'{source}: mmengine knows no checkpoint of that name: give a file or an address')
    address = known[name]
    return address if '://' in address else os.path.join(_get_mmengine_home(), address)


def _fetch(address: str, source: str) -> str | io.BytesIO:
    """A file on this machine, or the bytes of a remote one. ``source`` is the caller's name for it, for errors."""
    if '://' not in address:
        require_file(os.path.expanduser(address), 'checkpoint')
        return os.path.expanduser(address)
    kept = ''
    try:
        if not address.startswith(('http://', 'https://')):
            return io.BytesIO(fileio.get(address))
        file = Path(torch.hub.get_dir()) / 'checkpoints' / PurePosixPath(urlparse(address).path).name
        kept = f'put it at {file}, or '
        try:
            if is_main_process():
                _download(address, file)
        finally:
            barrier()
        _download(address, file)  # if the first process is on another machine
        return str(file)
    except Exception as error:  # a missing client, the network, the disk
        raise FetchError(
            f'{address} could not be fetched ({type(error).__name__}: {" ".join(str(error).split())}): fetch it by '
            f'other means and {kept}give the file',
            source,
        ) from None


def _download(address: str, file: Path) -> None:
    """Fetch a file by http, whole or not at all, unless it exists."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    hashed = re.search(r'-([0-9a-f]{8,64})\.', file.name)  # a hash as in resnet50-0676ba61.pth, no date
    prefix = hashed[1] if hashed and not hashed[1].isdecimal() else None
    torch.hub.download_url_to_file(address, str(file), prefix, progress=sys.stderr.isatty())


def _read_safetensors(data: bytes) -> dict[str, dict]:
    """Weights and meta of a file from :func:`write_safetensors`, or the weights of any other safetensors file."""
    try:
        weights = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], 'little')])
    meta = json.loads(header.get('__metadata__', {}).get('meta', '{}'))
    if not isinstance(meta, dict):
        raise ValueError('meta is no object')
    return dict(state_dict=weights, meta=meta)


def _with_sorted_metadata(data: bytes) -> bytes:
    """Sort the metadata of a safetensors file. Its order differs in every run otherwise, and so would hashes.

    Format: https://github.com/huggingface/safetensors#format
    """
    end = 8 + int.from_bytes(data[:8], 'little')
    header = json.loads(data[8:end])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # the numbers begin at a multiple of 8
    return len(text).to_bytes(8, 'little') + text + data[end:]


def write_safetensors(path: str | os.PathLike, weights: dict[str, Tensor], meta: dict) -> Path:
    """Write weights and their meta, whole or not at all. The file's name gets the first 8 digits of its SHA-256.

    Args:
        path: ``<folder>/<name>.safetensors``.
        weights: Tensors by name.
        meta: Values that can be written as JSON.

    Returns:
        The file, ``<folder>/<name>-<8 digits>.safetensors``.

    Raises:
        UserError: If the name does not end in ``.safetensors``, or the file exists or cannot be written.
    """
    path = Path(path)
    if path.suffix != '.safetensors':
        raise UserError(f'{path} does not end in .safetensors: name it so, since that is how it is read')
    require_folder(str(path.parent), 'folder of the result')
    content = {name: weight.detach().cpu().contiguous().clone() for name, weight in weights.items()}
    try:
        text = json.dumps(meta)
    except (TypeError, ValueError) as error:
        raise UserError(f'meta cannot be written as JSON ({error}): leave it out') from None
    data = _with_sorted_metadata(safetensors.torch.save(content, metadata=dict(format='pt', meta=text)))
    named = path.with_name(f'{path.stem}-{hashlib.sha256(data).hexdigest()[:8]}.safetensors')
    if named.exists():
        raise UserError(f'{named} is there already, with the same content')
    with sole_writer(named, 'result'):
        write_whole(named, data)
    return named


def latest_checkpoint(work_dir: str) -> str | None:
    """The newest complete checkpoint to resume from, or None.

    It is the last one that mmengine noted. If the process was killed while that was written, it is the newest complete
    checkpoint of an epoch or iteration. The work dir may have been moved or copied since.
    """
    folder = Path(work_dir)
    noted = folder / 'last_checkpoint'
    candidates = []
    if noted.exists():
        path = Path(noted.read_text().strip())
        candidates = [folder / path.name, path]
    written = [*folder.glob('epoch_*.pth'), *folder.glob('iter_*.pth')]
    candidates += sorted(written, key=lambda path: path.stat().st_mtime, reverse=True)
    return next((str(path) for path in candidates if path.is_file() and zipfile.is_zipfile(path)), None)
