"""Run a file of ``mmpanoptic export-onnx``. The import needs only numpy and the standard library."""

import json
import os
from typing import Any

import numpy as np

from mmpanoptic.results import Instances, PanopticResult, Segment
from mmpanoptic.utils import UserError

#: Entry of the file's metadata that holds all others, and its version.
METADATA, VERSION = 'mmpanoptic', 2


class OnnxPanoptic:
    """A panoptic model in an ONNX file, called with an image.

    Example:
        >>> model = OnnxPanoptic('model.onnx')
        >>> result = model(image)  # uint8 RGB of shape (H, W, 3)
        >>> print([(segment.name, segment.score, segment.bbox) for segment in result.segments])

    Args:
        path: The file.
        threads: Number of threads per operator; None: one per core.
        providers: Execution providers of onnxruntime, the first choice first.

    Raises:
        UserError: If onnxruntime is not installed or cannot run the file, the file is missing, or it was not written by
            ``mmpanoptic export-onnx``.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        threads: int | None = None,
        providers: tuple[str, ...] = ('CPUExecutionProvider',),
    ) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise UserError('the package onnxruntime is not installed: pip install onnxruntime') from None
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise UserError(f'{self.path} does not exist')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # no warnings, such as those about names in loops
        try:
            self._session = onnxruntime.InferenceSession(self.path, options, providers=list(providers))
        except Exception as error:  # the only common base of onnxruntime's errors
            line = str(error).strip().splitlines()[0]
            raise UserError(
                f'{self.path} cannot be run by onnxruntime {onnxruntime.__version__}: {line}: write it by mmpanoptic '
                'export-onnx, or update onnxruntime'
            ) from None
        #: ``categories``, ``preprocessing``, ``thresholds``, ``size`` and what wrote the file.
        self.metadata: dict[str, Any] = self._read_metadata()
        self._outputs = [output.name for output in self._session.get_outputs()]

    def _read_metadata(self) -> dict[str, Any]:
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
        found = json.loads(text) if text else {}
        if found.get('version') != VERSION:
            raise UserError(
                f'{self.path} has no metadata of mmpanoptic, or of another version of it: write it by mmpanoptic '
                'export-onnx'
            )
        return found

    @property
    def categories(self) -> list[dict[str, Any]]:
        """See :class:`~mmpanoptic.results.PanopticResult`."""
        return self.metadata['categories']

    def __call__(self, image: np.ndarray) -> PanopticResult:
        """Segment an image.

        Args:
            image: uint8 RGB of shape (H, W, 3).

        Returns:
            The result. ``instances`` are the things of the map, without masks. The graph does not return other
            detections.

        Raises:
            UserError: If the image has another type or shape, or another size than the file takes.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            what = f'{image.dtype} of shape {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
            raise UserError(f'an image has to be an array of uint8 of shape (height, width, 3), RGB, not {what}')
        size = self.metadata['size']
        if 0 in image.shape or (size and list(image.shape[:2]) != size):
            raise UserError(
                f'{self.path} takes images of {size[0]}x{size[1]} pixels (height x width), not of '
                f'{image.shape[0]}x{image.shape[1]}: resize it, or export with --size dynamic'
                if size
                else f'an image of {image.shape[0]}x{image.shape[1]} pixels has none'
            )
        found = self._session.run(None, {'image': np.ascontiguousarray(image)})
        return self._result(image, dict(zip(self._outputs, found, strict=True)))

    def _result(self, image: np.ndarray, found: dict[str, np.ndarray]) -> PanopticResult:
        """Convert the outputs of the graph to a result."""
        columns = (found[name].tolist() for name in ('ids', 'labels', 'scores', 'areas', 'boxes'))
        segments, things = [], 0
        for number, label, score, area, box in zip(*columns, strict=True):
            category = self.categories[label]
            is_thing = bool(category['isthing'])
            segments.append(
                Segment(
                    id=number,
                    label=label,
                    name=category['name'],
                    isthing=is_thing,
                    score=score,
                    area=area,
                    bbox=tuple(box),
                    instance=things if is_thing else None,
                )
            )
            things += is_thing
        left_top, sides = found['boxes'][:things, :2], found['boxes'][:things, 2:]
        instances = Instances(
            bboxes=np.concatenate([left_top, left_top + sides], axis=1).astype(np.float32),
            labels=found['labels'][:things].astype(np.int64),
            scores=found['scores'][:things],
        )
        return PanopticResult(None, image, found['id_map'], segments, instances, self.categories)
