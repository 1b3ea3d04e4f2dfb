"""Checks of the datasets before training and testing: that they are consistent and fit the model."""

import logging
from types import SimpleNamespace

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmengine.dataset import BaseDataset
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.datasets.validation import check_panoptic_pngs, panoptic_datasets
from mmpanoptic.datasets.wrappers import check_same_classes, inner_datasets
from mmpanoptic.registry import HOOKS
from mmpanoptic.results.coco import Id
from mmpanoptic.utils import UserError

NO_METRICS = SimpleNamespace(metrics=())  # stands for the evaluator of a training loop


@HOOKS.register_module()
class PanopticCheckHook(Hook):
    """Checks at the start of a run that its datasets fit the model, each other, their PNGs and the metrics.

    The hook compares the classes and PNGs of this project's datasets, the ids of images if metrics find images by id,
    and calls ``check_dataset`` of the metrics.

    Args:
        check_pngs: Whether to compare every PNG with its JSON entry
            (:func:`~mmpanoptic.datasets.validation.check_panoptic_pngs`); the classes are compared in any case.
    """

    priority = 'VERY_HIGH'

    def __init__(self, check_pngs: bool = True) -> None:
        self.check_pngs = check_pngs

    def before_run(self, runner: Runner) -> None:
        """Check the datasets of the loops that have been built."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        loops = (runner._train_loop, runner._val_loop, runner._test_loop)
        built = [loop for loop in loops if isinstance(loop, BaseLoop)]
        for loop in built:
            metrics = getattr(loop, 'evaluator', NO_METRICS).metrics
            if any(getattr(metric, 'finds_by_id', False) for metric in metrics):
                check_ids(loop.dataloader.dataset)
            for metric in metrics:
                if hasattr(metric, 'check_dataset'):
                    metric.check_dataset(loop.dataloader.dataset)
        datasets = [dataset for loop in built for dataset in panoptic_datasets(loop.dataloader.dataset)]
        check_same_classes(datasets)
        for dataset in datasets:
            check_classes(model, dataset.metainfo, dataset.ann_file)
        for dataset in datasets:
            if self.check_pngs and is_main_process():
                check_panoptic_pngs(dataset)
        barrier()
        for loop in built:
            for dataset in panoptic_datasets(loop.dataloader.dataset) if loop is not runner._train_loop else ():
                warn_of_few_detections(model, dataset)


def check_ids(dataset: BaseDataset) -> None:
    """Refuse a dataset with several images of the same id, if metrics find images by id.

    Raises:
        UserError: Naming two such images.
    """
    if next(inner_datasets(dataset)) is dataset:  # a single dataset was checked when it was read
        return
    path_of: dict[Id, str] = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if info['img_id'] in path_of:
            raise UserError(
                f'{path_of[info["img_id"]]} and {info["img_path"]} have the image id {info["img_id"]!r}, and are '
                'scored by their ids: give images of several datasets ids of their own, or test each dataset by itself'
            )
        path_of[info['img_id']] = info['img_path']


def check_classes(model: torch.nn.Module, meta: dict, path: str) -> None:
    """Compare the numbers of classes of a model's heads with a dataset's.

    Raises:
        UserError: If one differs, naming the module.
    """
    things, stuff = len(meta['thing_classes']), len(meta['stuff_classes'])
    tells_classes = getattr(model, 'tells_classes', True)  # CIAE can detect things with a head of one class
    in_model: int | tuple[int, int]
    in_data: int | tuple[int, int]
    for name, module in model.named_modules():
        if hasattr(module, 'num_things_classes') and hasattr(module, 'num_stuff_classes'):
            in_model, in_data = (module.num_things_classes, module.num_stuff_classes), (things, stuff)
        elif isinstance(module, (BBoxHead, FCNMaskHead, BaseDenseHead)) and not isinstance(module, RPNHead):
            in_model, in_data = module.num_classes, things if tells_classes else 1
        else:
            continue
        if in_model != in_data:
            raise UserError(
                f'{path} has {things} thing and {stuff} stuff classes, but `model{"." + name if name else ""}` is made '
                f"for {in_model}: set its numbers of classes to {in_data}, or to 'auto'"
            )


def warn_of_few_detections(model: torch.nn.Module, dataset: CocoPanopticDataset) -> None:
    """Warn if an image has more things than the model can detect in one image; the others would be missed."""
    config = getattr(model, 'test_cfg', None) or {}
    key = 'test_cfg.rcnn.max_per_img' if 'rcnn' in config else 'test_cfg.max_per_img'
    limit = (config.get('rcnn') or config).get('max_per_img', -1)
    counts = (
        sum(not instance['ignore_flag'] for instance in dataset.get_data_info(i)['instances'])
        for i in range(len(dataset))
    )
    most = max(counts, default=0)
    if 0 <= limit < most:
        print_log(
            f'{dataset.ann_file}: an image has {most} things, and the model detects at most {limit} in one: set '
            f'model.{key} to more',
            'current',
            logging.WARNING,
        )
