"""Say that the ranking module learns nothing."""

import logging

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmpanoptic.datasets.validation import panoptic_datasets
from mmpanoptic.registry import HOOKS


@HOOKS.register_module()
class RankingConflictHook(Hook):
    """Logs an error, once, if no pixel was in conflict in the first iterations of a training of a ranking module.

    The ranking loss is then 0, as it is when all is well; but nothing is learned, because the instances come from the
    panoptic PNG, whose masks never overlap, or from an instances JSON without overlaps. With several processes, the
    batches of all of them count, and the first one speaks. Where the module is trained on predicted masks, the data are
    not to blame, and nothing is said: a detector that has just begun finds no instances that could overlap.

    Args:
        iterations: How many iterations are looked at.
    """

    def __init__(self, iterations: int = 100) -> None:
        self.iterations = iterations
        self._seen = 0
        self._conflicts = 0.0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Count; ``outputs`` is what the model logs, with ``conflict_pixels`` of :class:`RankingFusion`."""
        if self._seen == self.iterations or 'conflict_pixels' not in (outputs or {}):
            return
        self._seen += 1
        self._conflicts += float(outputs['conflict_pixels'])
        if self._seen < self.iterations:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        conflicts = torch.tensor(self._conflicts, device=next(model.parameters()).device)
        all_reduce(conflicts)
        if conflicts > 0 or not is_main_process() or model.panoptic_fusion_head.train_input == 'pred':
            return
        datasets = list(panoptic_datasets(runner.train_dataloader.dataset))
        sources = sorted({dataset.inst_ann_file or dataset.ann_file for dataset in datasets})
        missing = any(dataset.inst_ann_file is None for dataset in datasets)
        by_class = model.panoptic_fusion_head.conflict == 'class'
        print_log(
            f'{", ".join(sources)}: no pixel of the first {self.iterations} batches is in '
            f'{"instances of two classes" if by_class else "two instances"}, so the ranking module learns nothing. '
            + (
                'Masks of a panoptic PNG never overlap: set inst_ann_file of the training dataset, '
                if missing
                else 'Give an inst_ann_file whose masks overlap, '
            )
            + "or train it on predicted masks (train_input='pred' of the fusion head)",
            logger='current',
            level=logging.ERROR,
        )
