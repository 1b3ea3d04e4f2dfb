"""Makes the statistics of batch norm equal on all processes before a model is validated or saved."""

import mmengine.hooks
from mmengine.dist import all_reduce_params
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from mmpanoptic.registry import HOOKS


@HOOKS.register_module()
class SyncBuffersHook(mmengine.hooks.SyncBuffersHook):
    """Averages batch norm's running means and variances over the processes, and no other buffer.

    mmengine's hook averages every buffer, but the mean of unit vectors is no unit vector
    (:class:`~mmpanoptic.models.CategoryMemory`).
    """

    called_in_train: bool

    def before_val_epoch(self, runner: Runner) -> None:
        """Average the statistics, unless that was done after the training epoch."""
        if self.distributed and not self.called_in_train:
            self._average(runner)
        self.called_in_train = False

    def after_train_epoch(self, runner: Runner) -> None:
        """Average the statistics."""
        if self.distributed:
            self._average(runner)
            self.called_in_train = True

    @staticmethod
    def _average(runner: Runner) -> None:
        norms = [module for module in runner.model.modules() if isinstance(module, _BatchNorm)]
        statistics = [buffer for norm in norms for buffer in norm.buffers(recurse=False) if buffer.is_floating_point()]
        all_reduce_params(statistics, op='mean')
