"""Checkpoint files: reading those that may come from anywhere, and writing those that are given away."""

import hashlib
import io
import json
import os
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import safetensors.torch
import torch
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

from mmpanoptic.utils import UserError, read_bytes, require_file, require_folder

from . import closed_pickle


def read_checkpoint(
    source: str | os.PathLike, trust: bool = False, map_location: str | torch.device | None = 'cpu'
) -> Any:
    """Content of a checkpoint: of any format of ``torch.save``, or a safetensors file (``*.safetensors``).

    Args:
        source: A file, an address (``https://``, ``s3://`` and what else mmengine reads), or a name that mmengine knows
            (``open-mmlab://``, ``torchvision://``, ``mmcls://``). What is fetched by http is kept in torch's cache.
        trust: Load Python objects too, which can run any code.
        map_location: Where tensors go, as in ``torch.load``.

    Raises:
        UserError: If there is no such file, it cannot be read, or it holds more than tensors and plain values and is
            not trusted.
    """
    source = os.fspath(source)
    file = _fetch(_address(source))
    if source.endswith('.safetensors'):
        return _read_safetensors(file, source, map_location)
    try:
        _check_archive(file, source)
        if isinstance(file, io.BytesIO):
            file.seek(0)
        if trust:
            content = torch.load(file, map_location=map_location, weights_only=False)
        else:  # not torch's weights_only: what that allows can be made to call what it is given
            content = torch.load(file, map_location=map_location, pickle_module=closed_pickle, weights_only=False)
            content = closed_pickle.to_plain(content)
    except closed_pickle.RefusedError as refused:
        raise UserError(
            f'{source} holds more than weights and plain values ({refused}), and loading that could run any code: if '
            'you trust the file, load it with trust_checkpoint=True',
            argument='trust_checkpoint',
        ) from None
    except OSError as error:
        raise UserError(f'{source} cannot be read: {error.strerror}') from None
    except UserError:
        raise
    except Exception:  # what is damaged, or trusted and of another version, fails in any way
        raise UserError(
            f'{source} is not a checkpoint that torch can read: it is truncated, damaged or of another kind'
        ) from None
    return _process_mmcls_checkpoint(content) if source.startswith('mmcls://') else content


def _read_safetensors(file: str | io.BytesIO, source: str, map_location: str | torch.device | None) -> dict[str, dict]:
    """Weights and meta of a file that :func:`write_safetensors` wrote, or weights alone of another one."""
    try:
        data = file.getvalue() if isinstance(file, io.BytesIO) else Path(file).read_bytes()
        weights = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], 'little')])
        meta = json.loads(header.get('__metadata__', {}).get('meta', '{}'))
    except OSError as error:
        raise UserError(f'{source} cannot be read: {error.strerror}') from None
    except (safetensors.SafetensorError, ValueError, RecursionError):
        raise UserError(f'{source} is no safetensors file: it is truncated, damaged or of another kind') from None
    device = map_location if isinstance(map_location, (str, torch.device)) else 'cpu'
    return dict(state_dict={name: weight.to(device) for name, weight in weights.items()}, meta=meta)


def write_safetensors(path: str | os.PathLike, weights: dict[str, Tensor], meta: dict) -> Path:
    """Write weights and their meta, whole or not at all; the file's name ends with the beginning of its SHA-256.

    Args:
        path: ``<folder>/<name>.safetensors``.
        weights: Tensors by name.
        meta: What can be written as JSON.

    Returns:
        The file, ``<folder>/<name>-<8 digits>.safetensors``.

    Raises:
        UserError: If the name does not end in ``.safetensors``, the file is there already, or cannot be written.
    """
    path = Path(path)
    if path.suffix != '.safetensors':
        raise UserError(f'{path} does not end in .safetensors: name it so, since that is how it is read')
    require_folder(str(path.parent), 'folder of the result')
    content = {name: weight.detach().cpu().contiguous().clone() for name, weight in weights.items()}
    data = safetensors.torch.save(content, metadata=dict(format='pt', meta=json.dumps(meta)))
    named = path.with_name(f'{path.stem}-{hashlib.sha256(data).hexdigest()[:8]}.safetensors')
    if named.exists():
        raise UserError(f'{named} is there already, with the same content')
    unfinished = named.with_name(f'.{named.name}.unfinished')
    try:
        with open(unfinished, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, named)
    except OSError as error:
        raise UserError(f'{named} cannot be written: {error.strerror}') from None
    finally:
        unfinished.unlink(missing_ok=True)
    return named


def _check_archive(file: str | io.BytesIO, source: str) -> None:
    """Compare a checkpoint with its checksums.

    Raises:
        UserError: If it is damaged, or it is a TorchScript program.
    """
    if not zipfile.is_zipfile(file):
        print_log(f'{source} is of an old format without checksums: damage to it would not be noticed', 'current')
        return
    with zipfile.ZipFile(file) as archive:
        if any(name.endswith('/constants.pkl') for name in archive.namelist()):
            raise UserError(f'{source} is a TorchScript program, not a checkpoint: save the weights by name')
        try:
            damaged = archive.testzip()
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
            damaged = str(error)
    if damaged is not None:
        raise UserError(f'{source} is damaged ({damaged} differs from its checksum): fetch or write it again')


def use_strict_loading(trust: bool = False) -> None:
    """Make mmengine read every checkpoint, whatever its source, by :func:`read_checkpoint`.

    Its own loaders retry with ``weights_only=False`` when the safe way fails, or begin with that; this runs whatever
    code a file brings.

    Args:
        trust: See :func:`read_checkpoint`.
    """

    def load_from_checked(filename: str, map_location: str | torch.device | None = None) -> Any:
        content = read_checkpoint(filename, trust, map_location)
        if isinstance(content, dict) and isinstance(content.get('meta'), dict):
            content['meta'].pop('config', None)  # mmengine runs this text as Python when it resumes
        return content

    CheckpointLoader.register_scheme(list(CheckpointLoader._schemes), load_from_checked, force=True)


def _address(source: str) -> str:
    """Where a checkpoint lies that is called by name; anything else as it is."""
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
    known = names[scheme]()
    name = get_deprecated_model_names().get(name, name)
    if name not in known:
        raise UserError(f'{source}: mmengine knows no checkpoint of that name: give a file or an address')
    address = known[name]
    return address if '://' in address else os.path.join(_get_mmengine_home(), address)


def _fetch(address: str) -> str | io.BytesIO:
    """What ``torch.load`` takes: a file on this machine, or the bytes of one elsewhere."""
    if '://' not in address:
        require_file(os.path.expanduser(address), 'checkpoint')
        return os.path.expanduser(address)
    if not address.startswith(('http://', 'https://')):
        return io.BytesIO(read_bytes(address))
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    file = folder / PurePosixPath(urlparse(address).path).name
    if not file.exists() and is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
        hashed = torch.hub.HASH_REGEX.search(file.name)  # as in resnet50-0676ba61.pth
        try:
            torch.hub.download_url_to_file(
                address, str(file), hashed.group(1) if hashed else None, progress=sys.stderr.isatty()
            )
        except (OSError, RuntimeError) as error:
            raise UserError(
                f'{address} could not be fetched ({error}): fetch it by other means and give the file, or put it there '
                f'as {file}'
            ) from None
    barrier()  # one process of each machine would do, but they cannot be told apart where a disk is shared
    return str(file)


def latest_checkpoint(work_dir: str) -> str | None:
    """The newest complete checkpoint to resume from, or None.

    The one that mmengine noted last, unless the process was killed while it was written; then the newest of an epoch or
    iteration that is complete. A work dir may have been moved or copied since.
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
