"""Panoptic predictions of a test as items of a dataset in COCO's format."""

import os.path as osp
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from mmpanoptic.formats.panoptic_png import encode_panoptic_png
from mmpanoptic.formats.panoptic_writer import PanopticItem
from mmpanoptic.registry import METRICS
from mmpanoptic.results.coco import CocoImage, Id, WrittenSegment
from mmpanoptic.structures import panoptic_to_coco, segments_of_map

from .arguments import check_gathering, require_part

ItemFields = tuple[CocoImage, str, bytes, list[WrittenSegment]]


def item_fields(
    sample: Mapping[str, Any], pred_map: np.ndarray, segments: Sequence[Any], meta: Mapping[str, Any]
) -> ItemFields:
    """Fields of an image's :class:`PanopticItem`, as plain values that the first rank can collect.

    Args:
        sample: The data sample, with ``img_path`` and ``img_id``.
        pred_map: Its panoptic map of shape (H, W).
        segments: Segments of the map, with ``id`` and ``label``.
        meta: The dataset's meta information, with ``classes`` and ``categories``.
    """
    by_label = sorted(meta['categories'], key=lambda category: category['label'])
    ids, infos = panoptic_to_coco(pred_map, segments, [category['id'] for category in by_label], len(meta['classes']))
    name = osp.basename(sample['img_path'])
    image = CocoImage(id=sample['img_id'], file_name=name, width=ids.shape[1], height=ids.shape[0])
    return image, f'{osp.splitext(name)[0]}.png', encode_panoptic_png(ids), infos


def predicted_fields(sample: Mapping[str, Any], meta: Mapping[str, Any]) -> ItemFields:
    """:func:`item_fields` of a sample's prediction.

    Raises:
        UserError: If the sample has no panoptic map.
    """
    prediction = require_part(sample, 'pred_panoptic_seg', 'the model gives no panoptic map')
    pred_map = prediction['sem_seg'].squeeze(0).cpu().numpy()
    segments = prediction.get('segments_info')
    if segments is None:
        segments = segments_of_map(pred_map, len(meta['classes']))
    return item_fields(sample, pred_map, segments, meta)


@METRICS.register_module()
class KeptPanoptic(BaseMetric):
    """Keeps the predictions of a test, to be written after the scores; gives no scores.

    Attributes:
        items: On the first rank, after the last image: all images in the order of the dataset; else empty.
        paths: Path of each image by its id.
    """

    default_prefix = 'kept'  # mmengine warns of a metric without a prefix

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        check_gathering(self, kwargs)
        self.items: list[PanopticItem] = []
        self.paths: dict[Id, str] = {}

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Encode the maps of a batch."""
        for sample in data_samples:
            fields = predicted_fields(sample, self.dataset_meta)
            self.results.append((sample.get('sample_idx', 0), sample['img_path'], fields))

    def compute_metrics(self, results: list[tuple[int, str, ItemFields]]) -> dict[str, float]:
        """Keep all predictions; called on the first rank."""
        results = sorted(results, key=lambda result: result[0])
        self.items = [PanopticItem(*fields) for _, _, fields in results]
        self.paths = {fields[0]['id']: path for _, path, fields in results}
        return {}
