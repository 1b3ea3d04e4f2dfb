"""Ground truth of an image in the form of evidence: masks of things, which may overlap, and stuff."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from torch import Tensor

from mmpanoptic.engine.components import build_dataset
from mmpanoptic.utils import UserError

from .instance_orders import best_match


class Things(NamedTuple):
    """The M things of an image that are no crowds.

    Attributes:
        masks: bool of shape (M, H, W). They may overlap if the dataset has ``inst_ann_file``; otherwise they are the
            segments of the panoptic map.
        labels: Labels of shape (M,).
        shown: Pixels that belong to each thing in the panoptic map, bool of shape (M, H, W); disjoint.
    """

    masks: Tensor
    labels: Tensor
    shown: Tensor


def annotated_dataset(config: Config, loader: str) -> BaseDataset:
    """Dataset of the dataloader with this key in the config. Its items hold only annotations, at the original size."""
    return build_dataset(config, loader, pipeline=[dict(type='LoadPanopticAnnotations')], filter_cfg=None)


def things_of(annotation: Mapping[str, Any]) -> Things:
    """The things in an item of :func:`annotated_dataset`."""
    kept = torch.from_numpy(~annotation['gt_ignore_flags'].astype(bool))
    masks = annotation['gt_masks'].to_tensor(torch.bool, 'cpu')[kept]
    labels = torch.from_numpy(annotation['gt_bboxes_labels'])[kept]
    ids = torch.from_numpy(annotation['gt_panoptic_map'])
    things = [s for s in annotation['segments_info'] if s['is_thing'] and not s['iscrowd']]
    visible = ids[None] == torch.tensor([s['id'] for s in things], dtype=ids.dtype)[:, None, None]
    # once=True: a thing that is completely hidden must not be matched with the segment of another thing.
    segment = best_match(masks, labels, visible, torch.tensor([s['label'] for s in things]), once=True)
    shown = masks.new_zeros(masks.shape)
    shown[segment >= 0] = visible[segment[segment >= 0]]
    return Things(masks, labels, shown)


def stuff_of(annotation: Mapping[str, Any], num_things: int, num_stuff: int) -> Tensor:
    """The stuff class of each pixel in an item of :func:`annotated_dataset`.

    Returns:
        int64 of shape (H, W), as in :class:`~mmpanoptic.structures.StuffLabels`: 0 to S - 1, S for things and void.
    """
    labels = torch.from_numpy(annotation['gt_seg_map']).long() - num_things
    return labels.masked_fill_((labels < 0) | (labels >= num_stuff), num_stuff)


def require_annotated(annotation: Mapping[str, Any]) -> None:
    """Refuse an image without ground truth.

    Raises:
        UserError: If this item of :func:`annotated_dataset` has none.
    """
    if 'gt_panoptic_map' not in annotation:
        raise UserError(f'{annotation["img_path"]} has no ground truth: name a dataset with panoptic annotations')
