"""Box and mask AP, and mIoU, on panoptic datasets."""

from collections.abc import Sequence

import torch
from mmdet.evaluation import CocoMetric, SemSegMetric
from mmdet.structures.mask import encode_mask_results
from mmengine.fileio import dump

from mmpanoptic.registry import METRICS
from mmpanoptic.structures import INSTANCE_OFFSET, labels_of_ids
from mmpanoptic.utils import UserError

_IGNORED = 255


def _require(sample: dict, key: str, remedy: str) -> dict:
    if key not in sample:
        raise UserError(f'{sample["img_path"]}: no {key}: {remedy}')
    return sample[key]


@METRICS.register_module()
class InstanceMetric(CocoMetric):
    """COCO AP (pycocotools) of a model's instances on a panoptic dataset.

    With ``ann_file``, an instances JSON, that is the ground truth. Without it, it is the things of the panoptic
    annotations, crowds included; those masks do not overlap.

    Raises:
        UserError: If the model predicts no instances, the image has no ground truth, or ``ann_file`` numbers the
            classes in another order than the dataset.
    """

    default_prefix = 'coco'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Collect predictions, and the ground truth where there is no ``ann_file``."""
        for sample in data_samples:
            _require(sample, 'pred_instances', 'the model predicts no instances, so bbox and segm cannot be scored')
            if self._coco_api is None:
                sample['instances'] = _instances(
                    _require(sample, 'gt_panoptic_seg', 'load annotations in the pipeline')
                )
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """See :class:`mmdet.evaluation.CocoMetric`."""
        if self._coco_api is not None:
            things = self.dataset_meta['thing_classes']
            ids = self._coco_api.get_cat_ids(cat_names=things)
            names = tuple(category['name'] for category in self._coco_api.load_cats(ids))
            if names != tuple(things):
                raise UserError(
                    'the instances JSON lists its classes in another order than the panoptic one, so labels would be '
                    'mixed up: sort its `categories` alike'
                )
        return super().compute_metrics(results)

    def gt_to_coco_json(self, gt_dicts: Sequence[dict], outfile_prefix: str) -> str:
        """Write the collected ground truth; mmdet's own takes a box's area for the mask's."""
        annotations = []
        for gt in gt_dicts:
            for instance in gt['anns']:
                annotations.append(dict(instance, id=len(annotations) + 1, image_id=gt['img_id']))
        images = [dict(id=gt['img_id'], width=gt['width'], height=gt['height'], file_name='') for gt in gt_dicts]
        categories = [dict(id=label, name=name) for label, name in enumerate(self.dataset_meta['classes'])]
        path = f'{outfile_prefix}.gt.json'
        dump(dict(info={}, images=images, annotations=annotations, categories=categories), path)
        return path


def _instances(ground_truth: dict) -> list[dict]:
    """Things of a panoptic ground truth as COCO annotations, category_id being the label."""
    ids = ground_truth['sem_seg'].squeeze(0).cpu()
    things = [segment for segment in ground_truth['segments_info'] if segment['is_thing']]
    masks = torch.stack([ids == segment['id'] for segment in things]).numpy() if things else []
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


@METRICS.register_module()
class PanopticIoUMetric(SemSegMetric):
    """mIoU over all classes, things and stuff, of the panoptic map read as semantics.

    Void in the ground truth is ignored; void in the prediction is a miss.
    """

    default_prefix = 'semantic'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count pixels by class."""
        for sample in data_samples:
            ground_truth = _require(sample, 'gt_panoptic_seg', 'load annotations in the pipeline')
            ids = ground_truth['sem_seg'].squeeze(0).cpu().numpy()
            labels = labels_of_ids(ids, ground_truth['segments_info'], _IGNORED)
            predicted = _require(sample, 'pred_panoptic_seg', 'the model gives no panoptic map')['sem_seg'].cpu()
            view = dict(
                pred_sem_seg=dict(sem_seg=predicted % INSTANCE_OFFSET),
                gt_sem_seg=dict(sem_seg=torch.from_numpy(labels)[None]),
            )
            super().process(data_batch, [view])
