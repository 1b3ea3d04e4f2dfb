"""Keep the predictions of a test set in a folder, a file per image, until the files for the server are in place.

After an interrupted run, the next run predicts only the images without a file.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.structures.mask import encode_mask_results
from mmengine.dist import barrier
from mmengine.evaluator import BaseMetric

from mmpanoptic.evaluation.metrics.arguments import require_part
from mmpanoptic.evaluation.metrics.panoptic_predictions import predicted_fields
from mmpanoptic.registry import METRICS
from mmpanoptic.results.coco import CocoImage, Id
from mmpanoptic.utils import UserError, remove_whole, require_folder, write_whole

_RUN, _LEFT = 'run.json', 'left.json'


class Predictions:
    """A folder with a prediction for each image of a list.

    ``run.json`` holds the values that the predictions depend on. ``<place>.json`` holds the prediction for the image at
    that index of the list. Panoptic models give ``segments_info`` and ``png`` (in base64). Instance models give
    ``masks`` (whether there are masks) and ``instances``, with ``category_id``, ``bbox`` ([x, y, width, height] in
    pixels), ``score`` and, if there are masks, ``segmentation`` (RLE) and ``mask_score``.

    Args:
        folder: The folder, which need not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def left_file(self) -> Path:
        """A JSON in COCO's format with the images that are left and the categories, for a dataset."""
        return self.folder / _LEFT

    def begin(
        self, run: Mapping[str, Any], images: Sequence[CocoImage], categories: Sequence[Mapping[str, Any]]
    ) -> int:
        """Make the folder, or continue it if it is of the same run. One process must call this.

        Args:
            run: Values that the predictions depend on, by name.
            images: Images of the test set: ``id``, ``file_name``, ``height``, ``width``.
            categories: Categories of the model: ``id``, ``name``, ``isthing``.

        Returns:
            Number of images that are left.

        Raises:
            UserError: If the folder is of a run with other values, holds anything else, or cannot be written.
        """
        run = json.loads(json.dumps(run))
        parts = {*self.folder.glob('.*.json.*.part')}  # of a process that was killed while it wrote one of the files
        is_used = self.folder.is_dir() and any(path not in parts for path in self.folder.iterdir())
        earlier = self._earlier_run() if is_used else None
        for part in parts:
            part.unlink(missing_ok=True)
        if earlier is not None and self.has_some():
            other = next((key for key in run if earlier.get(key) != run[key]), None)
            if other is not None:
                raise UserError(
                    f'{self.folder} holds predictions of a run with another {other}: remove the folder to predict '
                    'again, or name another OUT'
                )
        else:
            require_folder(str(self.folder), 'OUT')
            write_whole(self.folder / _RUN, json.dumps(run))
        left = [image for place, image in enumerate(images) if not self._file(place).exists()]
        places = [[image['id'], place] for place, image in enumerate(images)]
        content = dict(images=left, categories=list(categories), places=places)
        write_whole(self.left_file, json.dumps(content))
        return len(left)

    def _earlier_run(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / _RUN).read_text()))
        except (OSError, ValueError, TypeError):
            raise UserError(
                f'{self.folder} exists and holds no predictions: move it away or name another OUT'
            ) from None

    def places(self) -> dict[Id, int]:
        """Index in the list of each image, by the id of the image."""
        return dict(json.loads(self.left_file.read_text())['places'])

    def write(self, place: int, found: Mapping[str, Any]) -> None:
        """Write the prediction for an image.

        Raises:
            WriteError: If it cannot be written.
        """
        write_whole(self._file(place), json.dumps(found))

    def read(self, place: int) -> dict[str, Any]:
        """Read the prediction for an image.

        Raises:
            UserError: If it is missing or damaged.
        """
        path = self._file(place)
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            raise UserError(f'{path} cannot be read: remove it and run the command again') from None

    def read_all(self, number: int) -> Iterator[dict[str, Any]]:
        """Read the predictions for the first ``number`` images, in the order of the list."""
        return map(self.read, range(number))

    def has_some(self) -> bool:
        """Whether there is a prediction for an image."""
        return next(self.folder.glob('[0-9]*.json'), None) is not None

    def remove(self) -> None:
        """Remove the folder, after the files for the server are in place. Only its sole writer may call this."""
        remove_whole(self.folder)

    def _file(self, place: int) -> Path:
        return self.folder / f'{place:06d}.json'


@METRICS.register_module()
class StoredPredictions(BaseMetric):
    """Metric without scores that writes the predictions of each process to a folder of :class:`Predictions`.

    Args:
        folder: The folder, after :meth:`Predictions.begin`.
        panoptic: Whether to store panoptic maps; otherwise instances.
        need_masks: Whether instances must have masks.

    Raises:
        UserError: If the model predicts no maps, instances or masks as required, or a file cannot be written.
    """

    default_prefix = 'stored'  # mmengine warns of a metric without a prefix

    def __init__(self, folder: str, panoptic: bool, need_masks: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.predictions = Predictions(folder)
        self.panoptic, self.need_masks = panoptic, need_masks
        self._place_of: dict[Id, int] | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Write a file for each image of a batch."""
        if self._place_of is None:
            self._place_of = self.predictions.places()
        for sample in data_samples:
            found = self._panoptic(sample) if self.panoptic else self._instances(sample)
            place = self._place_of[sample['img_id']]
            self.predictions.write(place, found)

    def _panoptic(self, sample: dict[str, Any]) -> dict[str, Any]:
        _, _, png, segments = predicted_fields(sample, self.dataset_meta)
        return dict(segments_info=segments, png=base64.b64encode(png).decode())

    def _instances(self, sample: dict[str, Any]) -> dict[str, Any]:
        found = require_part(sample, 'pred_instances', 'the model predicts no instances')
        if self.need_masks:
            require_part({**found, 'img_path': sample['img_path']}, 'masks', 'the server asks for masks of instances')
        by_label = sorted(self.dataset_meta['categories'], key=lambda category: category['label'])
        instances = [
            dict(category_id=by_label[label]['id'], bbox=[x1, y1, x2 - x1, y2 - y1], score=score)
            for label, (x1, y1, x2, y2), score in zip(
                found['labels'].tolist(), found['bboxes'].tolist(), found['scores'].tolist(), strict=True
            )
        ]
        if 'masks' in found:
            masks = found['masks']
            encoded = encode_mask_results(masks.cpu().numpy()) if isinstance(masks, torch.Tensor) else masks
            scores = found.get('mask_scores', found['scores']).tolist()
            for instance, mask, score in zip(instances, encoded, scores, strict=True):
                counts = mask['counts'] if isinstance(mask['counts'], str) else mask['counts'].decode()
                instance |= dict(segmentation=dict(size=list(mask['size']), counts=counts), mask_score=score)
        return dict(instances=instances, masks='masks' in found)

    def evaluate(self, size: int) -> dict[str, float]:
        """Wait until all processes have written their files. Nothing is gathered."""
        barrier()
        return {}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return no scores; not called, see :meth:`evaluate`."""
        return {}
