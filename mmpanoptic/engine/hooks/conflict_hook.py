"""Warn when the ranking module gets no training signal."""

import logging

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmpanoptic.datasets.validation import panoptic_datasets
from mmpanoptic.models.fusion import RankingFusion
from mmpanoptic.registry import HOOKS


@HOOKS.register_module()
class RankingConflictHook(Hook):
    """Logs an error once if no pixel was in conflict in the first iterations of a training of a ranking module.

    The ranking loss is then 0, as it is after successful training. But the module learns nothing, because the instances
    come from the panoptic PNG, whose masks never overlap, or from an instances JSON without overlaps. With several
    processes, the batches of all of them count, and the first process logs. If the module is trained on predicted
    masks, the hook checks at the end of the training, because an untrained detector finds no overlapping instances.
    Models without a ranking module are ignored.

    Args:
        iterations: Number of iterations after which to check.
    """

    def __init__(self, iterations: int = 100) -> None:
        self.iterations = iterations
        self._seen = 0
        self._conflicts = torch.zeros(())

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Count conflicts; ``outputs`` is what the model logs, with ``conflict_pixels`` of :class:`RankingFusion`."""
        if outputs is None or 'conflict_pixels' not in outputs:
            return
        self._seen += 1
        # Addition on the device, without waiting for it.
        self._conflicts = self._conflicts + torch.as_tensor(outputs['conflict_pixels']).detach()
        head = _model_of(runner).panoptic_fusion_head
        if self._seen != self.iterations or head.train_input == 'pred' or self._were_conflicts(runner):
            return
        datasets = list(panoptic_datasets(runner.train_dataloader.dataset))
        sources = sorted({dataset.inst_ann_file or dataset.ann_file for dataset in datasets})
        missing = any(dataset.inst_ann_file is None for dataset in datasets)
        way_out = (
            'Masks of a panoptic PNG never overlap: set inst_ann_file of the training dataset'
            if missing
            else 'Give an inst_ann_file whose masks overlap'
        )
        _log_error(
            f'{", ".join(sources)}: no pixel of the first {self.iterations} batches is in {_conflict(head)}, so the '
            f"ranking module learns nothing. {way_out}, or train it on predicted masks (train_input='pred' of the "
            'fusion head)'
        )

    def after_train(self, runner: Runner) -> None:
        """Check all batches of a training on predicted masks."""
        if not self._seen:
            return
        head = _model_of(runner).panoptic_fusion_head
        if head.train_input == 'pred' and not self._were_conflicts(runner):
            _log_error(
                f'no pixel of {self._seen} batches is in predicted {_conflict(head)}, so the ranking module has '
                'learned nothing. Start from a detector that is trained, or train on annotated masks '
                "(train_input='gt' of the fusion head, and inst_ann_file of the training dataset)"
            )

    def _were_conflicts(self, runner: Runner) -> bool:
        """Whether any process has counted a conflict."""
        conflicts = torch.as_tensor(self._conflicts, device=next(_model_of(runner).parameters()).device).clone()
        all_reduce(conflicts)
        return bool(conflicts > 0)


def _model_of(runner: Runner) -> BaseDetector:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _conflict(head: RankingFusion) -> str:
    return 'instances of two classes' if head.conflict == 'class' else 'two instances'


def _log_error(message: str) -> None:
    if is_main_process():
        print_log(message, logger='current', level=logging.ERROR)
