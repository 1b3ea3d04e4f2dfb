"""Box and mask AP on panoptic datasets."""

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.evaluation import CocoMetric
from mmdet.structures.mask import encode_mask_results
from mmengine.dataset import BaseDataset
from mmengine.fileio import dump, load
from mmengine.logging import MMLogger, print_log
from pycocotools.cocoeval import COCOeval

from mmpanoptic.evaluation.tables import ClassScores
from mmpanoptic.formats.coco_api import load_cocos
from mmpanoptic.registry import METRICS
from mmpanoptic.utils import UserError, require_folder, sole_writer, write_whole
from mmpanoptic.utils.logs import file_only, printed_to_log

from .arguments import check_gathering, refuse_without, require_part
from .coco_options import CocoOptions
from .written_results import after_scores

_COCO_LIMIT = 100  # COCO's limit on the detections of a class in an image
_HEADERS = {'bbox': 'box AP', 'segm': 'mask AP'}


@METRICS.register_module()
class InstanceMetric(CocoMetric):
    """COCO AP (pycocotools) of a model's instances on a panoptic dataset.

    With ``ann_file``, an instances JSON is the ground truth. Without it, the ground truth is the things of the panoptic
    annotations, crowds included; these masks do not overlap. The files of ``outfile_prefix`` are written after scoring.
    If writing fails, the error is logged and kept in ``unwritten``.

    Args:
        ann_file: One or more instances JSON files, which are joined; relative to the current folder.
        args, kwargs: See :class:`mmdet.evaluation.CocoMetric`, and :class:`~.coco_options.CocoOptions` for
            ``proposal_nums``, ``iou_thrs`` and ``metric_items``. ``sort_categories`` is refused.
            With ``classwise``, the AP of every class is also kept as ``class_scores``.

    Raises:
        UserError: If the model predicts no instances or no masks, an image has no ground truth or is not in
            ``ann_file``, ``ann_file`` lists the classes in another order than the dataset, two images have the same id,
            or an argument would have no effect.
    """

    default_prefix = 'coco'
    finds_by_id = True
    metrics: list[str]
    iou_thrs: Any  # given as a number or a sequence; an array from here on
    metric_items: Sequence[str] | None
    outfile_prefix: str | None

    def __init__(self, ann_file: str | Sequence[str] | None = None, *args, **kwargs) -> None:
        super().__init__(None, *args, **kwargs)
        check_gathering(self, kwargs)
        self.class_scores: ClassScores | None = None
        if kwargs.get('sort_categories'):
            raise UserError('InstanceMetric: sort_categories has no effect, as classes are found by name: drop it')
        self.options = CocoOptions(self.metrics, self.proposal_nums, self.iou_thrs, self.metric_items, self.classwise)
        self.iou_thrs, self.metric_items = self.options.iou_thrs, self.options.mmdet_items
        if self.outfile_prefix is not None and not os.path.basename(self.outfile_prefix):
            raise UserError(
                f'InstanceMetric: outfile_prefix {self.outfile_prefix} is a folder: add the beginning of the names'
            )
        if ann_file is None:
            refuse_without(self, 'ann_file', backend_args=self.backend_args)
        else:
            remedy = 'set `ann_file` of InstanceMetric, which does not follow `data_root`'
            self._files = [ann_file] if isinstance(ann_file, str) else list(ann_file)
            self._coco_api = load_cocos(self._files, self.backend_args, remedy, score_masks='segm' in self.metrics)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Collect predictions and, without ``ann_file``, the ground truth."""
        data_samples = [dict(sample) for sample in data_samples]  # other metrics get the same samples
        for sample in data_samples:
            found = require_part(
                sample, 'pred_instances', 'the model predicts no instances: bbox and segm cannot be scored'
            )
            if 'segm' in self.metrics and 'masks' not in found:
                raise UserError(
                    f'{sample["img_path"]}: the model predicts no masks of instances, so segm cannot be scored: leave '
                    'it out (score bbox, and PQ if the model gives a panoptic map)'
                )
            if self._coco_api is None:
                sample['instances'] = _instances(
                    require_part(sample, 'gt_panoptic_seg', 'load annotations in the pipeline')
                )
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """See :class:`mmdet.evaluation.CocoMetric`."""
        for image_id, times in Counter(ground_truth['img_id'] for ground_truth, _ in results).most_common(1):
            if times > 1:
                raise UserError(
                    f'{times} tested images have the id {image_id!r}, and AP tells images apart by their ids: give '
                    'those of several datasets ids of their own, or test one at a time'
                )
        self.img_ids = [ground_truth['img_id'] for ground_truth, _ in results]  # ann_file may hold more than was tested
        if self._coco_api is not None:
            self._check_ann_file(set(self.img_ids))
        scores = self._score(results)
        if not any(len(prediction['scores']) for _, prediction in results):  # then mmdet gives no scores at all
            kinds = [kind for kind in self.metrics if kind in ('bbox', 'segm')]
            scores |= {f'{kind}_{name}': 0.0 for kind in kinds for name in ('mAP', 'mAP_50', 'mAP_75')}
        return {} if self.format_only else self.options.named(scores)

    def _score(self, results: list) -> dict[str, float]:
        """Score with mmdet; its files are moved into place when they are complete and the scores are known."""
        prefix = self.outfile_prefix
        with tempfile.TemporaryDirectory() as scratch:
            try:
                self.outfile_prefix = os.path.join(scratch, os.path.basename(prefix or 'results'))
                with file_only(), printed_to_log(MMLogger.get_current_instance()):
                    scores = self._scores_of_mmdet(results)
                scores |= {} if self.format_only else self._ap_of_crowded_images()
                self.class_scores = self._class_scores(scores) if self.classwise else None
            finally:
                self.outfile_prefix = prefix
            if prefix is None:
                return scores
            with contextlib.nullcontext() if self.format_only else after_scores(self):
                require_folder(os.path.dirname(prefix), 'outfile_prefix')
                with sole_writer(prefix, 'outfile_prefix'):
                    for file in Path(scratch).iterdir():
                        write_whole(os.path.join(os.path.dirname(prefix), file.name), file.read_bytes())
        return scores

    def _scores_of_mmdet(self, results: list) -> dict[str, float]:
        """mmdet's scores. Class scores of boxes and masks get different names; mmdet would overwrite the former."""
        if not self.classwise or len(self.metrics) == 1:
            return super().compute_metrics(results)
        metrics = self.metrics
        scores: dict[str, float] = {}
        try:
            for kind in metrics:
                self.metrics = [kind]
                for name, score in super().compute_metrics(results).items():
                    scores[f'{kind}_{name}' if name.endswith('_precision') else name] = score
        finally:
            self.metrics = metrics
        return scores

    def _class_scores(self, scores: dict[str, float]) -> ClassScores:
        columns, means = {}, {}
        for kind in _HEADERS.keys() & set(self.metrics):
            prefix = f'{kind}_' if len(self.metrics) > 1 else ''
            found = {name: scores.get(f'{prefix}{name}_precision') for name in self.dataset_meta['classes']}
            if f'{kind}_mAP' in scores:
                columns[_HEADERS[kind]] = {name: 100 * float(ap) for name, ap in found.items() if ap is not None}
                means[_HEADERS[kind]] = 100 * scores[f'{kind}_mAP']
        return ClassScores({header: columns[header] for header in _HEADERS.values() if header in columns}, means)

    def _ap_of_crowded_images(self) -> dict[str, float]:
        """mAP at the last of ``proposal_nums``, if COCO's limit of 100 detections of a class would cut off objects.

        pycocotools computes mAP at exactly 100 detections, and gives -1 if ``proposal_nums`` lacks 100. It computes the
        other scores at the last of ``proposal_nums``.
        """
        kinds = {'bbox', 'segm'} & set(self.metrics)
        if not kinds:
            return {}
        annotations = self._coco_api.dataset['annotations']
        counts = Counter((a['image_id'], a['category_id']) for a in annotations if not a.get('iscrowd'))
        most, limit = max(counts.values(), default=0), max(self.proposal_nums)
        if most > limit:
            raise UserError(
                f'an image has {most} objects of one class, and {limit} detections of a class are scored: set '
                f'proposal_nums=(100, 300, {most}) of InstanceMetric'
            )
        if most <= _COCO_LIMIT and _COCO_LIMIT in self.proposal_nums:
            return {}
        scores = {}
        for kind in kinds:
            found = load(f'{self.outfile_prefix}.{kind}.json')
            if not found:
                continue
            if kind == 'segm':
                found = [{key: value for key, value in result.items() if key != 'bbox'} for result in found]
            with printed_to_log(MMLogger.get_current_instance()):
                evaluation = COCOeval(self._coco_api, self._coco_api.loadRes(found), kind)
                evaluation.params.catIds, evaluation.params.imgIds = self.cat_ids, self.img_ids
                evaluation.params.iouThrs, evaluation.params.maxDets = self.iou_thrs, [limit]
                evaluation.evaluate()
                evaluation.accumulate()
            precision = evaluation.eval['precision'][:, :, :, 0, -1]  # of all areas
            scores[f'{kind}_mAP'] = round(float(precision[precision > -1].mean()), 3)
        print_log(f'An image has {most} objects of one class: mAP counts up to {limit} detections, not 100', 'current')
        return scores

    def check_dataset(self, dataset: BaseDataset) -> None:
        """Refuse an ``ann_file`` that does not fit a dataset, before training or testing begins.

        Raises:
            UserError: If ``ann_file`` lists other classes or lacks an image.
        """
        if self._coco_api is not None and self.dataset_meta is not None:
            self._check_ann_file({dataset.get_data_info(index)['img_id'] for index in range(len(dataset))})

    def _check_ann_file(self, image_ids: set) -> None:
        file = ' and '.join(self._files)
        things = tuple(self.dataset_meta.get('thing_classes', self.dataset_meta['classes']))
        listed = [category['name'] for category in self._coco_api.dataset['categories']]
        names = tuple(name for name in listed if name in self.dataset_meta['classes'])
        if names != things:
            place = next((i for i, pair in enumerate(zip(names, things, strict=False)) if len(set(pair)) > 1), None)
            detail = (
                f'{len(names)} against {len(things)}' if place is None else f'{names[place]!r}, not {things[place]!r}'
            )
            raise UserError(
                f'{file} does not list the things of the dataset in their order ({detail}), so labels would be mixed '
                'up: make their `categories` alike'
            )
        unknown = image_ids - set(self._coco_api.getImgIds())
        if unknown:
            raise UserError(
                f'{file} lacks image {min(unknown, key=str)!r} of the dataset: set `ann_file` of InstanceMetric to the '
                "dataset's JSON"
            )

    def gt_to_coco_json(self, gt_dicts: Sequence[dict], outfile_prefix: str) -> str:
        """Write the collected ground truth. mmdet's method would take a box's area for the mask's."""
        annotations: list[dict[str, Any]] = []
        for gt in gt_dicts:
            for instance in gt['anns']:
                annotations.append(dict(instance, id=len(annotations) + 1, image_id=gt['img_id']))
        images = [dict(id=gt['img_id'], width=gt['width'], height=gt['height'], file_name='') for gt in gt_dicts]
        categories = [dict(id=label, name=name) for label, name in enumerate(self.dataset_meta['classes'])]
        path = f'{outfile_prefix}.gt.json'
        dump(dict(info={}, images=images, annotations=annotations, categories=categories), path)
        return path


def _instances(ground_truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Things of a panoptic ground truth as COCO annotations, with the label as ``category_id``."""
    ids = ground_truth['sem_seg'].squeeze(0).cpu()
    things = [segment for segment in ground_truth['segments_info'] if segment['is_thing']]
    masks: Iterable[Any] = torch.stack([ids == segment['id'] for segment in things]).numpy() if things else []
    return [
        dict(
            bbox=segment['bbox'],
            area=segment['area'],
            category_id=segment['label'],
            iscrowd=segment['iscrowd'],
            segmentation=dict(size=rle['size'], counts=rle['counts'].decode()),
        )
        for segment, rle in zip(things, encode_mask_results(masks), strict=True)
    ]
