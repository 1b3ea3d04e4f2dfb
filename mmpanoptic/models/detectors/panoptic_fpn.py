"""Panoptic FPN."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from mmdet.models import TwoStagePanopticSegmentor
from mmdet.structures import DetDataSample, OptSampleList, SampleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmpanoptic.registry import MODELS
from mmpanoptic.structures import Evidence

from .base import PanopticDetector
from .samples import fit_masks, no_instances, output_size, without_classes


@contextmanager
def evaluating(*parts: nn.Module) -> Iterator[None]:
    """Put modules in eval mode, and restore the mode of each submodule on exit."""
    before = [(module, module.training) for part in parts for module in part.modules()]
    try:
        for part in parts:
            part.eval()
        yield
    finally:
        for module, training in before:
            module.training = training


@MODELS.register_module()
class PanopticFPN(PanopticDetector, TwoStagePanopticSegmentor):
    """Mask R-CNN plus a semantic branch on one FPN. https://arxiv.org/abs/1901.02446

    It differs from mmdet's class of that name in three ways: predictions keep their instances (for box and mask AP),
    the fusion head takes its thresholds as arguments, and ``mode='tensor'`` works.

    Without thing classes, it is the semantic branch alone: ``rpn_head`` and ``roi_head`` are None then.

    Args:
        panoptic_fusion_head: Config of a fusion head, such as :class:`~mmpanoptic.models.HeuristicFusion`.
        kwargs: See :class:`mmdet.models.TwoStagePanopticSegmentor`.

    Raises:
        ValueError: If there are thing classes without RPN and RoI heads, or such heads without thing classes.
    """

    def __init__(self, *args, panoptic_fusion_head: dict, **kwargs) -> None:
        super().__init__(*args, panoptic_fusion_head=None, **kwargs)
        self.build_fusion_head(panoptic_fusion_head)
        if self.with_rpn != self.with_roi_head or self.with_roi_head != (self.num_things_classes > 0):
            what = 'some class is a thing' if self.num_things_classes else 'no class is a thing'
            raise ValueError(
                f'{what}: rpn_head and roi_head are needed with thing classes, and must both be None without them'
            )

    def extract_feats(self, batch_inputs: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Features of the RPN and the RoI heads, and features of the semantic branch, which are the same here."""
        features = self.extract_feat(batch_inputs)
        return features, features

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of the RPN, the RoI heads, the semantic branch and, if it is trained, the fusion head.

        Args:
            batch_inputs: Images of shape (N, 3, H, W), normalised and padded.
            batch_data_samples: One sample per image, with ``gt_instances``, ``ignored_instances`` and ``gt_sem_seg``.

        Returns:
            Losses by name.
        """
        features, semantic_features = self.extract_feats(batch_inputs)
        losses = self._instance_losses(features, batch_data_samples) if self.with_roi_head else {}
        losses.update(self.semantic_head.loss(semantic_features, batch_data_samples))
        predict_instances = partial(self.predict_instances, features, batch_data_samples)
        losses.update(self.panoptic_fusion_head.loss(batch_data_samples, predict_instances))
        return losses

    def _instance_losses(self, features: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of the RPN and the RoI heads."""
        losses, proposals = self.rpn_head.loss_and_predict(
            features,
            [without_classes(sample) for sample in batch_data_samples],
            proposal_cfg=self.train_cfg.get('rpn_proposal', self.test_cfg.rpn),
        )
        losses = {name if 'rpn' in name else f'rpn_{name}': loss for name, loss in losses.items()}
        losses.update(self.roi_head.loss(features, proposals, batch_data_samples))
        return losses

    @torch.no_grad()
    def predict_instances(self, features: tuple[Tensor, ...], batch_data_samples: SampleList) -> list[InstanceData]:
        """Instances at the size of the input, by heads in eval mode, for a fusion head that is trained on them."""
        with evaluating(self.rpn_head, self.roi_head):
            proposals = self.rpn_head.predict(features, batch_data_samples, rescale=False)
            instances = self.roi_head.predict(features, proposals, batch_data_samples, rescale=False)
        return [fit_masks(found, sample.metainfo) for found, sample in zip(instances, batch_data_samples, strict=True)]

    def evidence(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> list[Evidence]:
        """Instances with masks and the prediction of the semantic branch, see :meth:`PanopticDetector.evidence`."""
        features, semantic_features = self.extract_feats(batch_inputs)
        metas = [sample.metainfo for sample in batch_data_samples]
        if self.with_roi_head:
            instances = self._instances(features, batch_data_samples, rescale)
        else:
            instances = [no_instances(output_size(meta, rescale), batch_inputs.device) for meta in metas]
        semantics = self.semantic_head.predict(semantic_features, metas, rescale)
        return [
            Evidence(found, stuff, tuple(meta['img_shape'][:2]), output_size(meta, rescale))
            for found, stuff, meta in zip(instances, semantics, metas, strict=True)
        ]

    def _instances(
        self, features: tuple[Tensor, ...], batch_data_samples: SampleList, rescale: bool
    ) -> list[InstanceData]:
        """Instances with masks of each image, at its original size or at the size of the input."""
        if batch_data_samples[0].get('proposals', None) is None:
            proposals = self.rpn_head.predict(features, batch_data_samples, rescale=False)
        else:
            proposals = [sample.proposals for sample in batch_data_samples]
        instances = self.roi_head.predict(features, proposals, batch_data_samples, rescale=rescale)
        metas = [sample.metainfo for sample in batch_data_samples]
        return instances if rescale else list(map(fit_masks, instances, metas))

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple:
        """Raw outputs, for counting operations: the RPN's, the RoI heads' and the semantic logits."""
        features, semantic_features = self.extract_feats(batch_inputs)
        if not self.with_roi_head:
            return (self.semantic_head(semantic_features)['seg_preds'],)
        if batch_data_samples is None:
            batch_data_samples = [DetDataSample(metainfo=dict(img_shape=x.shape[-2:])) for x in batch_inputs]
        proposals = self.rpn_head.predict(features, batch_data_samples, rescale=False)
        roi_outputs = self.roi_head.forward(features, proposals, batch_data_samples)
        return (*self.rpn_head(features), *roi_outputs, self.semantic_head(semantic_features)['seg_preds'])
