"""Predict the stuff class of each pixel of the output."""

from typing import NamedTuple

import torch
from mmdet.models import BaseDetector
from torch import Tensor

from mmpanoptic.models.fusion.stuff import best_channel, stuff_labels

from .confidence import Rating, rating_by_logits
from .sizes import Size


class StuffMap(NamedTuple):
    """Stuff class of each pixel, int64 of shape (H, W), S for none, and the function that computes confidences."""

    classes: Tensor
    rating: Rating


def stuff_of(model: BaseDetector, feats: tuple[Tensor, ...], meta: dict) -> StuffMap:
    """Predict stuff classes.

    Args:
        model: A detector with a semantic head that gives StuffLogits or StuffLabels.
        feats: Input of the semantic head for one image.
        meta: ``batch_input_shape``, ``img_shape`` and ``ori_shape``, int64 scalars.
    """
    head = model.semantic_head
    if getattr(head, 'resize', None) == 'labels':
        (logits,) = head.logits_of_input(feats, [meta])
        classes = nearest(best_channel(logits), meta['img_shape'], meta['ori_shape'])
        return StuffMap(classes, rating_by_logits(logits, 0, meta['ori_shape']))
    (stuff,) = head.predict(feats, [meta], True)
    counts = model.num_things_classes, model.num_stuff_classes
    first = model.num_things_classes if stuff.channels == 'all' else 0
    return StuffMap(stuff_labels(stuff, *counts), rating_by_logits(stuff.logits, first))


def nearest(image: Tensor, size: Size, wanted: Size) -> Tensor:
    """Nearest interpolation of an image of that size as in torch. ONNX's interpolation rounds places differently.

    Source: ``nearest_idx`` of https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/UpSample.h
    """
    places = [
        torch.minimum(
            (torch.arange(new).float() * (old.reshape(1).float() / new.reshape(1).float())).floor().long(), old - 1
        )
        for old, new in zip(size, wanted, strict=True)
    ]
    return image.index_select(0, places[0]).index_select(1, places[1])
