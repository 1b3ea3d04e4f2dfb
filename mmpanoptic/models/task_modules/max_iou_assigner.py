"""mmdet's assignment by overlap, without a loop over the objects."""

import torch
from mmdet.models.task_modules import AssignResult, assigners
from torch import Tensor

from mmpanoptic.registry import TASK_UTILS


@TASK_UTILS.register_module()
class MaxIoUAssigner(assigners.MaxIoUAssigner):
    """mmdet's assigner with the same results. It never waits for the device; the original waits twice per object."""

    def assign_wrt_overlaps(self, overlaps: Tensor, gt_labels: Tensor) -> AssignResult:
        """Assign priors to objects.

        Args:
            overlaps: IoU of G objects with P priors, of shape (G, P).
            gt_labels: Labels of the objects, of shape (G,).
        """
        num_gts, num_priors = overlaps.shape
        if not num_gts or not num_priors:
            return super().assign_wrt_overlaps(overlaps, gt_labels)
        best, best_object = overlaps.max(dim=0)
        low, high = self.neg_iou_thr if isinstance(self.neg_iou_thr, tuple) else (0, self.neg_iou_thr)
        assigned = torch.where((best >= low) & (best < high), 0, -1)
        assigned = torch.where(best >= self.pos_iou_thr, best_object + 1, assigned)
        if self.match_low_quality:
            closest, closest_prior = overlaps.max(dim=1)
            counts = closest >= self.min_pos_iou
            if self.gt_max_assign_all:
                is_closest = (overlaps == closest[:, None]) & counts[:, None]
            else:
                is_closest = torch.zeros_like(overlaps, dtype=torch.bool)
                is_closest.scatter_(1, closest_prior[:, None], counts[:, None])
            # If a prior is the closest one of several objects, mmdet's loop assigns it to the last of them.
            numbers = torch.arange(1, num_gts + 1, dtype=torch.int16 if num_gts < 2**15 else torch.int32)
            last = (is_closest * numbers.to(overlaps.device)[:, None]).amax(dim=0).long()
            assigned = torch.where(last > 0, last, assigned)
        labels = torch.where(assigned > 0, gt_labels[(assigned - 1).clamp(min=0)], -1)
        return AssignResult(num_gts=num_gts, gt_inds=assigned, max_overlaps=best, labels=labels)
