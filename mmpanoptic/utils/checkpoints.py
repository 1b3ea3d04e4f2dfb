"""Loading checkpoints that may come from anywhere."""

import os
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import mmengine.runner.checkpoint as mmengine_checkpoint
import torch

from .errors import UserError


def load_strictly(file: str | os.PathLike, map_location: str | torch.device | None = None, weights_only=None) -> dict:
    """``torch.load`` with ``weights_only=True``, whatever is asked for.

    Raises:
        UserError: If the file is no checkpoint, is truncated, or holds more than tensors and plain values.
    """
    try:
        with torch.serialization.safe_globals(mmengine_checkpoint.get_torch_safe_globals()):
            return torch.load(file, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        reason = str(error).split('\n')[0]
        if 'Weights only load failed' in reason and 'GLOBAL' in str(error):
            raise UserError(
                f'{file} holds Python objects, not only weights, and loading it could run any code: if you trust it, '
                'pass --trust-checkpoint'
            ) from None
        raise UserError(f'{file} is not a checkpoint that torch can read: it is damaged or of another kind') from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).split('\n')[0]
        raise UserError(
            f'{file} is not a checkpoint that torch can read ({reason}): damaged or of another kind'
        ) from None


def use_strict_loading(trust: bool = False) -> None:
    """Make mmengine load every checkpoint by :func:`load_strictly`.

    Its own loader retries with ``weights_only=False`` when the safe way fails, which runs whatever code a file brings.

    Args:
        trust: Keep mmengine's loader, for files that are known to be good.
    """
    if not trust:
        mmengine_checkpoint._safe_torch_load = load_strictly


def latest_checkpoint(work_dir: str) -> str | None:
    """The newest complete checkpoint to resume from, or None.

    The one that mmengine noted last, unless the process was killed while it was written; then the newest ``*.pth`` that
    is complete.
    """
    folder = Path(work_dir)
    noted = folder / 'last_checkpoint'
    candidates = [Path(noted.read_text().strip())] if noted.exists() else []
    candidates += sorted(folder.glob('*.pth'), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((str(path) for path in candidates if path.is_file() and zipfile.is_zipfile(path)), None)
