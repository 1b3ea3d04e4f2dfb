"""Files of a test, written after the scores, so that a full disk does not cost the scores."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, cast

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
    """Log an error of writing and keep it as ``metric.unwritten`` for :func:`raise_unwritten`, after the scores."""
    metric.unwritten = None
    try:
        yield
    except UserError as error:
        metric.unwritten = error
        MMLogger.get_current_instance().error(str(error))


def instance_files(stem: str, instances: dict, ids: Sequence[int], listing: str) -> dict[str, bytes]:
    """One image's files in the format of Cityscapes' and Mapillary Vistas' test servers.

    Args:
        stem: Beginning of the PNGs' names.
        instances: ``masks`` of shape (N, H, W), and ``mask_scores`` or else ``scores``.
        ids: The server's class number of each instance.
        listing: Name of the text file.

    Returns:
        Contents by name: a PNG for each mask, with values 0 and 255, and last the text file with a line
        ``<PNG> <class> <score>`` for each.
    """
    masks = instances['masks'].cpu().numpy().astype(np.uint8)
    scores = instances['mask_scores' if 'mask_scores' in instances else 'scores'].tolist()
    names = [f'{stem}_{k}.png' for k in range(len(masks))]
    lines = [f'{name} {number} {score}\n' for name, number, score in zip(names, ids, scores, strict=True)]
    files = {name: encode_png(255 * mask) for name, mask in zip(names, masks, strict=True)}
    return files | {listing: ''.join(lines).encode()}


def write_folder(images: Sequence[dict[str, bytes]], folder: str, maker: str) -> None:
    """Write the files of all images; earlier files of the same metric are replaced.

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
    """Raise the first error that a metric kept; call this after a test, when its scores are printed.

    Raises:
        UserError: If a metric could not write its files.
    """
    for metric in evaluator.metrics:
        if getattr(metric, 'unwritten', None) is not None:
            raise metric.unwritten


class _Noting:
    """A file that remembers its error of writing, because torch's writer raises another error instead."""

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
        torch.save(content, cast(BinaryIO, noting))  # it calls write and flush only
    except Exception:
        if noting.error is not None:
            raise noting.error from None
        raise


@METRICS.register_module()
class PredictionDump(DumpDetResults):
    """Write all predictions to a file, whole or not at all, as a list that ``torch.load(weights_only=True)`` reads.

    :class:`mmdet.evaluation.DumpDetResults`, the base class, would pickle them, and reading a pickle can run code. Its
    failure to write would also lose the scores of other metrics.
    """

    default_prefix = 'results'  # unused, but mmengine warns of a metric without a prefix

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
