"""Loading checkpoints that may come from anywhere."""

import os
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import mmengine.runner.checkpoint as mmengine_checkpoint
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from .errors import UserError


def load_strictly(file: str | os.PathLike, map_location: str | torch.device | None = None, weights_only=None) -> dict:
    """``torch.load`` with ``weights_only=True``, whatever is asked for.

    Raises:
        UserError: If the file is no checkpoint, is truncated, or holds more than tensors and plain values.
    """
    try:
        torch.serialization.add_safe_globals(mmengine_checkpoint.get_torch_safe_globals())
        return torch.load(file, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        if 'Weights only load failed' in str(error) and 'GLOBAL' in str(error):
            raise UserError(
                f'{file} holds Python objects, not only weights, and loading it could run any code: if you trust it, '
                'pass --trust-checkpoint'
            ) from None
    except OSError as error:
        raise UserError(f'{file} cannot be read: {error.strerror}') from None
    except (RuntimeError, EOFError, ValueError, KeyError):
        pass
    raise UserError(f'{file} is not a checkpoint that torch can read: it is truncated, damaged or of another kind')


def use_strict_loading(trust: bool = False) -> None:
    """Make mmengine load every checkpoint by :func:`load_strictly`.

    Its own loader retries with ``weights_only=False`` when the safe way fails, which runs whatever code a file brings.

    Args:
        trust: Keep mmengine's loader, for files that are known to be good.
    """
    if not trust:
        mmengine_checkpoint._safe_torch_load = load_strictly


class RequireAllWeights(Hook):
    """Refuse a checkpoint that leaves weights of the model as they were initialised, or numbers the classes otherwise.

    mmengine logs what does not fit and goes on, so that a wrong checkpoint gives a wrong score.

    Args:
        resuming: Whether the checkpoint has to hold the state of the training as well.
    """

    priority = 'VERY_LOW'  # after hooks that rewrite the checkpoint

    def __init__(self, resuming: bool = False) -> None:
        self.resuming = resuming

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes before the weights are copied."""
        path = runner._load_from
        weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else checkpoint
        if not isinstance(weights, dict):
            raise UserError(f'{path} holds a {type(weights).__name__}, not the weights of a model by name')
        if self.resuming and not {'meta', 'message_hub', 'optimizer', 'param_schedulers'} <= checkpoint.keys():
            raise UserError(
                f'{path} holds no state of a training to resume: start from its weights with --cfg-options load_from='
            )
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        problem = first_misfit(model, weights)
        if problem:
            raise UserError(f'{path} is not of the model that the config describes: {problem}')
        dataset = (runner.train_dataloader if self.resuming else runner.test_dataloader).dataset
        trained = ((checkpoint.get('meta') or {}).get('dataset_meta') or {}).get('classes', ())
        classes = dataset.metainfo.get('classes', ())
        other = next((i for i, names in enumerate(zip(trained, classes, strict=False)) if names[0] != names[1]), None)
        if len(trained) == len(classes) and other is not None:  # of another number, the heads do not fit
            raise UserError(
                f'{path} was trained with class {other} being {trained[other]!r}, which is {classes[other]!r} in the '
                'dataset of the config: list the same categories in the same order'
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
