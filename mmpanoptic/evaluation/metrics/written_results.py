"""Files of a test: they are written after the scores, so that a full disk costs the files alone."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import torch
from mmdet.evaluation import DumpDetResults
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MMLogger

from mmpanoptic.drawing.encode import encode_png
from mmpanoptic.registry import METRICS
from mmpanoptic.utils import UserError, whole_file, whole_folder

from .arguments import check_gathering


@contextlib.contextmanager
def after_scores(metric: BaseMetric) -> Iterator[None]:
    """Keep an error of writing as ``metric.unwritten`` until the scores are out: see :func:`raise_unwritten`."""
    metric.unwritten = None
    try:
        yield
    except UserError as error:
        metric.unwritten = error
        MMLogger.get_current_instance().error(str(error))


def instance_files(stem: str, instances: dict, ids: Sequence[int], listing: str) -> dict[str, bytes]:
    """One image's files for a test server as Cityscapes and Mapillary Vistas want them.

    Args:
        stem: What the names of PNGs begin with.
        instances: ``masks``, of shape (N, H, W), and ``scores``, or ``mask_scores`` where they are.
        ids: The server's number of the class of each.
        listing: Name of the text file.

    Returns:
        By name: a PNG for each mask, 0 and 255, and the text, a line ``<PNG> <class> <score>`` for each.
    """
    masks = instances['masks'].cpu().numpy().astype(np.uint8)
    scores = instances['mask_scores' if 'mask_scores' in instances else 'scores'].tolist()
    names = [f'{stem}_{k}.png' for k in range(len(masks))]
    lines = [f'{name} {number} {score}\n' for name, number, score in zip(names, ids, scores, strict=True)]
    files = {name: encode_png(255 * mask) for name, mask in zip(names, masks, strict=True)}
    return files | {listing: ''.join(lines).encode()}


def write_folder(images: Sequence[dict[str, bytes]], folder: str, maker: str) -> None:
    """Write the files of all images, and replace what the same metric wrote before.

    Raises:
        UserError: If the folder cannot be written, holds anything else, or an image was tested twice.
    """
    if len({name for files in images for name in files}) < sum(map(len, images)):
        raise UserError(f'outfile_prefix of {maker}: an image was tested twice: do not repeat it')
    with whole_folder(folder, maker, 'outfile_prefix') as made:
        for files in images:
            for name, content in files.items():
                (made / name).write_bytes(content)
    MMLogger.get_current_instance().info(f'Results of {len(images)} images written to {folder}')


def raise_unwritten(evaluator: Evaluator) -> None:
    """To be called after a test, when its scores are printed.

    Raises:
        UserError: The first that a metric kept.
    """
    for metric in evaluator.metrics:
        if getattr(metric, 'unwritten', None) is not None:
            raise metric.unwritten


class _Noting:
    """A file that remembers why it could not be written, of which torch's writer makes another error."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def _try(self, function: Callable, *args) -> Any:
        try:
            return function(*args)
        except OSError as error:
            self.error = error
            raise

    def write(self, data: bytes) -> int:
        """Write to the file."""
        return self._try(self._file.write, data)

    def flush(self) -> None:
        """Flush the file."""
        self._try(self._file.flush)


def _save(content: Any, file: BinaryIO) -> None:
    """``torch.save`` into an open file.

    Raises:
        OSError: If it cannot be written.
    """
    noting = _Noting(file)
    try:
        torch.save(content, noting)
    except Exception:
        if noting.error is not None:
            raise noting.error from None
        raise


@METRICS.register_module()
class PredictionDump(DumpDetResults):
    """All predictions in a file, whole or not at all: a list of what ``torch.load(weights_only=True)`` takes.

    See :class:`mmdet.evaluation.DumpDetResults`, which pickles them, so that whoever reads them runs what the file
    says, and whose failure to write would lose the scores of other metrics.
    """

    default_prefix = 'results'  # it has no scores; mmengine warns of a metric without a prefix

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_gathering(self, kwargs)

    def compute_metrics(self, results: Sequence[dict]) -> dict:
        """Write the file; called on the first rank."""
        with after_scores(self):
            with whole_file(self.out_file_path) as file:
                _save(results, file)
            MMLogger.get_current_instance().info(f'Predictions written to {self.out_file_path}')
        return {}
