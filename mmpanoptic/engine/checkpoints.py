"""Loading checkpoints that may come from anywhere."""

import io
import os
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
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

from mmpanoptic.utils import UserError, read_bytes, require_file

from . import closed_pickle


def read_checkpoint(
    source: str | os.PathLike, trust: bool = False, map_location: str | torch.device | None = 'cpu'
) -> Any:
    """Content of a checkpoint, of any format of ``torch.save``.

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


class RequireAllWeights(Hook):
    """Refuse a checkpoint that leaves weights of the model as they were initialised, or numbers the classes otherwise.

    mmengine logs what does not fit and goes on, so that a wrong checkpoint gives a wrong score.

    Args:
        resuming: Whether the checkpoint has to hold the state of the training as well.
        allow_nan: Whether it may hold values that are not finite.
    """

    priority = 'VERY_LOW'  # after hooks that rewrite the checkpoint

    def __init__(self, resuming: bool = False, allow_nan: bool = False) -> None:
        self.resuming = resuming
        self.allow_nan = allow_nan

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes before the weights are copied."""
        path = runner._load_from
        weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else checkpoint
        if not isinstance(weights, dict):
            raise UserError(f'{path} holds a {type(weights).__name__}, not the weights of a model by name')
        if self.resuming and not {'meta', 'message_hub', 'optimizer', 'param_schedulers'} <= checkpoint.keys():
            raise UserError(f'{path} holds no state of a training to resume: start from its weights by load_from')
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        problem = first_misfit(model, weights)
        if problem:
            raise UserError(f'{path} is not of the model that the config describes: {problem}')
        if not self.allow_nan:
            require_finite(checkpoint, path)
        dataset = (runner.train_dataloader if self.resuming else runner.test_dataloader).dataset
        trained = ((checkpoint.get('meta') or {}).get('dataset_meta') or {}).get('classes', ())
        classes = dataset.metainfo.get('classes', ())
        other = next((i for i, names in enumerate(zip(trained, classes, strict=False)) if names[0] != names[1]), None)
        if len(trained) == len(classes) and other is not None:  # of another number, the heads do not fit
            raise UserError(
                f'{path} was trained with class {other} being {trained[other]!r}, which is {classes[other]!r} in the '
                'dataset of the config: list the same categories in the same order'
            )


def require_finite(content: dict, path: str) -> None:
    """Refuse a checkpoint with a value that is NaN or infinite: it would score 0, or spoil what is trained from it.

    Raises:
        UserError: Naming the first such tensor.
    """
    name = first_not_finite(content)
    if name is not None:
        raise UserError(
            f'{path}: {name} holds a value that is not finite: take a checkpoint from before that, or load it all the '
            'same with allow_nan=True',
            argument='allow_nan',
        )


def first_misfit(model: torch.nn.Module, weights: dict) -> str | None:
    """What a model needs and weights by name lack first, or None; counters of batch norm may be missing."""
    weights = {name.removeprefix('module.'): value for name, value in weights.items()}
    for name, own in model.state_dict().items():
        value = weights.get(name)
        if value is None:
            if not name.endswith('num_batches_tracked'):
                return f'it has no {name}'
        elif not isinstance(value, torch.Tensor) or value.shape != own.shape:
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            return f'{name} is {shape} in the checkpoint and {tuple(own.shape)} in the model'
    return None


def first_not_finite(content: Any, name: str = '') -> str | None:
    """Dotted name of the first tensor of floats in nested dicts and lists with a NaN or an infinite value, or None."""
    if isinstance(content, Tensor):
        return None if not content.is_floating_point() or bool(content.isfinite().all()) else name
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    found = (first_not_finite(value, f'{name}.{key}' if name else str(key)) for key, value in items)
    return next((one for one in found if one is not None), None)


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
