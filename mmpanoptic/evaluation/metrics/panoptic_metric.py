"""Panoptic quality in the test loop."""

import os.path as osp
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch import Tensor

from mmpanoptic.evaluation.panoptic_quality import ImageMatches, accumulate, average, match_segments, per_class
from mmpanoptic.evaluation.tables import ClassScores
from mmpanoptic.formats.panoptic_json import annotations_by_image, parse_categories, parse_segments, read_json
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.formats.panoptic_writer import PanopticItem, check_places, write_panoptic
from mmpanoptic.registry import METRICS
from mmpanoptic.results.coco import CocoImage, Id, PanopticAnnotation
from mmpanoptic.structures import segments_of_map
from mmpanoptic.utils import UserError, read_bytes

from .arguments import check_gathering, refuse_without
from .panoptic_predictions import ItemFields, item_fields
from .written_results import after_scores

_GROUPS = (('', None), ('_th', True), ('_st', False))


@METRICS.register_module()
class PanopticMetric(BaseMetric):
    """PQ, SQ and RQ (in percent) of ``pred_panoptic_seg``, scored from memory.

    The ground truth is the sample's ``gt_panoptic_seg``; with ``ann_file``, it is read from that file instead. Images
    are summed in the order of the ground truth's annotations, on whatever rank they were predicted. So any number of
    processes gives scores that equal those of the official tool, run in one process, to the last bit.

    Args:
        ann_file: Panoptic JSON. Needed only if the test pipeline loads no annotations.
        seg_prefix: Folder of its PNGs; by default the JSON's name without the suffix.
        classwise: Whether to keep the scores of every class, as ``class_scores``.
        format_only: Write the files of ``outfile_prefix`` and score nothing, as for a test server.
        outfile_prefix: Write ``<prefix>.panoptic.json`` and the PNGs in ``<prefix>.panoptic/``, COCO's result format
            (https://cocodataset.org/#format-results). They are written when all images are scored, and replace those of
            an earlier run. If writing fails, the error is logged and kept in ``unwritten``.
        backend_args: Storage backend of ``ann_file`` and its PNGs.
        kwargs: See :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        UserError: If an image has no ground truth or no panoptic prediction, ``ann_file`` lists other classes than
            the dataset, two images have the same id in it, an argument has no effect without ``ann_file``, or
            ``outfile_prefix`` names anything else than an earlier result.
    """

    default_prefix = 'panoptic'

    def __init__(
        self,
        ann_file: str | None = None,
        seg_prefix: str | None = None,
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if format_only and outfile_prefix is None:
            raise UserError('PanopticMetric: format_only=True needs outfile_prefix, the place to write to')
        self.classwise = classwise
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.backend_args = backend_args
        self.class_scores: ClassScores | None = None
        self._annotations: dict[Id, tuple[int, CocoImage, PanopticAnnotation | None]] | None = None
        self._path_of: dict[Id, str] = {}
        check_gathering(self, kwargs)
        if ann_file is None:
            refuse_without(self, 'ann_file', seg_prefix=seg_prefix, backend_args=backend_args)
        else:
            self._ann_file, self._seg_prefix = ann_file, seg_prefix or osp.splitext(ann_file)[0]
            remedy = 'set `ann_file` of PanopticMetric, which does not follow `data_root`'
            data = read_json(ann_file, backend_args, remedy)
            self._category_of = {c['id']: c for c in parse_categories(data.get('categories'), ann_file)}
            pairs = annotations_by_image(data, ann_file)
            self._annotations = {image['id']: (place, image, gt) for place, (image, gt) in enumerate(pairs)}

    @property
    def ground_truth(self) -> tuple[str, str] | None:
        """JSON and folder of PNGs of the ground truth, if they are not the dataset's."""
        return None if self._annotations is None else (self._ann_file, self._seg_prefix)

    @property
    def finds_by_id(self) -> bool:
        """Whether the ground truth of an image is found by the image's id."""
        return self._annotations is not None

    @property
    def _png_folder(self) -> str:
        return f'{self.outfile_prefix}.panoptic'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Match the segments of a batch; a few numbers per image are kept."""
        void = len(self.dataset_meta['classes'])
        if self.outfile_prefix and not self.results and is_main_process():
            check_places(f'{self._png_folder}.json')
        for sample in data_samples:
            if 'pred_panoptic_seg' not in sample:
                raise UserError(
                    f'{sample["img_path"]}: the model gives no panoptic map, so PQ cannot be scored: '
                    'score bbox and segm'
                )
            prediction = sample['pred_panoptic_seg']
            pred_map = prediction['sem_seg'].squeeze(0)
            segments = prediction.get('segments_info')
            if segments is None:
                segments = segments_of_map(pred_map.cpu().numpy(), void)
            place, matches = (sample.get('sample_idx', 0), None)
            if not self.format_only:
                place, gt_ids, gt_segments = self._ground_truth(sample)
                maps = _side_by_side(gt_ids, pred_map)
                matches = match_segments(maps[0], gt_segments, maps[1], segments, void, sample['img_path'])
            written = None
            if self.outfile_prefix:
                written = item_fields(sample, pred_map.cpu().numpy(), segments, self.dataset_meta)
            self.results.append((place, matches, written))

    def _ground_truth(self, sample: dict[str, Any]) -> tuple[int, Tensor, Sequence[Mapping[str, Any]]]:
        """Index in the order of summation, segment ids of shape (H, W), and segments."""
        if self._annotations is None:
            if 'gt_panoptic_seg' not in sample:
                raise UserError(
                    f'{sample["img_path"]} has no ground truth: add LoadPanopticAnnotations and PackPanopticInputs to '
                    'the test pipeline, or give PanopticMetric an ann_file, or format_only=True'
                )
            gt = sample['gt_panoptic_seg']
            return gt['sample_idx'], gt['sem_seg'].squeeze(0), gt['segments_info']
        place, image, annotation = self._annotations.get(sample['img_id'], (0, None, None))
        if image is None or annotation is None:
            raise UserError(f'{self._ann_file} has no annotation of image {sample["img_id"]!r} ({sample["img_path"]})')
        other = self._path_of.setdefault(sample['img_id'], sample['img_path'])
        if other != sample['img_path']:
            raise UserError(
                f'{other} and {sample["img_path"]} have the image id {sample["img_id"]!r}, and {self._ann_file} has '
                'one image with it: drop ann_file of PanopticMetric, or give the images different ids'
            )
        self._check_classes()
        path = osp.join(self._seg_prefix, annotation['file_name'])
        ids = decode_panoptic_png(read_bytes(path, self.backend_args), path, (image['height'], image['width']))
        return place, torch.from_numpy(ids), parse_segments(annotation, self._category_of, self._ann_file)

    def _check_classes(self) -> None:
        """Refuse an ``ann_file`` whose labels have other meanings than the dataset's: all scores would be wrong."""
        of_file = [c['name'] for c in sorted(self._category_of.values(), key=itemgetter('label'))]
        for label, names in enumerate(zip_longest(of_file, self.dataset_meta['classes'])):
            if names[0] != names[1]:
                raise UserError(
                    f'{self._ann_file}: class {label} is {names[0]!r}, and {names[1]!r} in the tested dataset: list '
                    'the same `categories` in the same order in both'
                )

    def compute_metrics(self, results: list[tuple[int, ImageMatches | None, ItemFields | None]]) -> dict[str, float]:
        """Sum and average over all images; called on the first rank.

        Returns:
            ``PQ``, ``SQ``, ``RQ`` over all classes, with suffix ``_th`` over things and ``_st`` over stuff, in percent;
            empty with ``format_only``.
        """
        results = sorted(results, key=lambda result: result[0])
        if self.format_only:
            self._write(written for _, _, written in results)
            return {}
        categories = self.dataset_meta['categories']
        # mmengine turns named tuples into plain ones when it collects results. Only format_only has no matches.
        stat = accumulate((ImageMatches(*matches) for _, matches, _ in results if matches), len(categories))
        averages = {suffix: average(stat, categories, isthing) for suffix, isthing in _GROUPS}
        if self.classwise:
            self.class_scores = _class_scores(per_class(stat, categories), categories, averages[''])
        if self.outfile_prefix:
            with after_scores(self):
                self._write(written for _, _, written in results)
        return {
            f'{key.upper()}{suffix}': 100 * values[key]
            for suffix, values in averages.items()
            for key in ('pq', 'sq', 'rq')
        }

    def _write(self, fields: Iterable[ItemFields | None]) -> None:
        items = (PanopticItem(*of_image) for of_image in fields if of_image)  # with outfile_prefix none is None
        write_panoptic(f'{self._png_folder}.json', items, self.dataset_meta['categories'])
        MMLogger.get_current_instance().info(f'Results written to {self._png_folder}.json and {self._png_folder}/')


def _side_by_side(gt_ids: Tensor, pred_map: Tensor) -> tuple[np.ndarray, np.ndarray] | tuple[Tensor, Tensor]:
    """Bring both maps to the prediction's device: as arrays on a CPU, as tensors on a GPU.

    In a test loop the ground truth is on this device already. With ``ann_file``, it is copied to the GPU: it has as
    many bytes as the prediction, and counting on the GPU is faster.
    """
    if pred_map.device.type == 'cpu':
        return gt_ids.cpu().numpy(), pred_map.numpy()
    return gt_ids.to(pred_map.device), pred_map


def _class_scores(
    quality: Mapping[Any, Mapping[str, float]], categories: Sequence[Mapping[str, Any]], means: Mapping[str, float]
) -> ClassScores:
    """Columns of quality by class from quality by category id; ``means`` is the average over all classes."""
    shares, counts = {'PQ': 'pq', 'SQ': 'sq', 'RQ': 'rq'}, {'TP': 'tp', 'FP': 'fp', 'FN': 'fn'}
    columns = {
        header: {c['name']: factor * quality[c['id']][key] for c in categories}
        for keys, factor in ((shares, 100.0), (counts, 1))
        for header, key in keys.items()
    }
    return ClassScores(columns, {header: 100 * means[key] for header, key in shares.items()})
