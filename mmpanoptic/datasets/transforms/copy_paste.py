"""Copy-paste for panoptic data: pixels, instances and the semantic map together."""

from collections.abc import Sized

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.mask import BitmapMasks

from mmpanoptic.registry import TRANSFORMS
from mmpanoptic.utils import UserError

from .loading import VOID_LABEL

_NEEDED = ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks')


@TRANSFORMS.register_module()
class PanopticCopyPaste(BaseTransform):
    """Pastes a random subset of another image's objects, in front of all that is there.

    Source: Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, section 3,
    https://arxiv.org/abs/2012.07177. mmdet's ``CopyPaste`` leaves the semantic map as it was; here it says what the
    loader would have written for the new image. To stand in the pipeline of a ``MultiImageMixDataset``.

    What is pasted of an object are the pixels that show it: those of its mask where the semantic map has its class.
    Crowds are not pasted. Both images lie at the same top left corner; what leaves the image is cut off.

    Masks that overlap (of an ``inst_ann_file``) overlap afterwards as before, those of each image among themselves:
    whatever the ranking module learns from is an overlap that somebody annotated. What pasted objects hide is cut from
    the masks of the image itself, as in the paper, and the boxes of masks that changed are drawn anew.

    Args:
        max_pasted: The most objects to paste; how many is drawn evenly from 0 on, as mmdet does.
        min_visible: An object of the image is dropped if a smaller share is left of what was seen of it, or nothing;
            what is left is void. An object of the other image of whose mask a smaller share is seen is not pasted.
            The paper drops what is hidden completely, which is 0; the default is ours.

    Raises:
        UserError: If annotations of instances are missing in the pipeline, or there is no other image.
    """

    def __init__(self, max_pasted: int = 100, min_visible: float = 0.1) -> None:
        self.max_pasted = max_pasted
        self.min_visible = min_visible

    def get_indexes(self, dataset: Sized) -> int:
        """Place of the other image; ``MultiImageMixDataset`` asks for it."""
        return int(np.random.randint(len(dataset)))

    def transform(self, results: dict) -> dict:
        """Paste into ``results`` from ``results['mix_results'][0]``, both without padding or padded alike.

        Changes ``img``, ``gt_bboxes``, ``gt_bboxes_labels``, ``gt_ignore_flags``, ``gt_masks`` and ``gt_seg_map``.
        """
        others = results.get('mix_results')
        if not others:
            raise UserError('PanopticCopyPaste has no other image: put it into the pipeline of a MultiImageMixDataset')
        for one in (results, others[0]):
            if missing := [key for key in _NEEDED if key not in one]:
                raise UserError(
                    f'{one.get("img_path")}: PanopticCopyPaste lacks {", ".join(missing)}: load boxes, labels and masks'
                )
            if 'gt_panoptic_map' in one:
                raise UserError('PanopticCopyPaste leaves the panoptic map as it is: load with_panoptic=False')
        other = _on_canvas(others[0], results['img'].shape[:2])
        seen = _seen(other['gt_masks'], other)
        chosen = self._choose(seen, other['areas'], other['gt_ignore_flags'])
        if not len(chosen):
            return results
        pasted = seen[chosen].any(axis=0)
        self._hide(results, pasted)
        results['img'] = np.where(pasted[..., None], other['img'], results['img'])
        if 'gt_seg_map' in results:
            results['gt_seg_map'][pasted] = other['gt_seg_map'][pasted]
        self._add(results, other, chosen, pasted)
        return results

    def _choose(self, seen: np.ndarray, areas: np.ndarray, ignored: np.ndarray) -> np.ndarray:
        """Places of the objects to paste, in their order."""
        visible = seen.sum(axis=(1, 2))
        possible = np.flatnonzero((visible > 0) & (visible >= self.min_visible * areas) & ~ignored.astype(bool))
        number = np.random.randint(min(len(possible), self.max_pasted) + 1)
        return np.sort(np.random.choice(possible, number, replace=False))

    def _hide(self, results: dict, pasted: np.ndarray) -> None:
        """Cut from the image's own instances what will lie behind pasted objects, and drop those of too little."""
        masks, boxes = results['gt_masks'].masks.astype(bool), results['gt_bboxes']
        seen = _seen(masks, results)
        before, after = seen.sum(axis=(1, 2)), (seen & ~pasted).sum(axis=(1, 2))
        left = masks & ~pasted
        # What was hidden all along is kept as the loader keeps it.
        enough = (before == 0) | ((after > 0) & (after >= self.min_visible * before))
        kept = enough & left.any(axis=(1, 2))
        if 'gt_seg_map' in results:
            _clear(results['gt_seg_map'], left, results['gt_bboxes_labels'], kept)
        bitmaps = _bitmaps(left[kept], pasted.shape)
        if kept.any():
            tensor = boxes.tensor[kept]
            changed = (masks & pasted).any(axis=(1, 2))[kept]
            tensor[changed] = bitmaps.get_bboxes(type(boxes)).tensor[changed].to(tensor)
            results['gt_bboxes'] = type(boxes)(tensor)
        else:
            results['gt_bboxes'] = boxes[kept]
        results['gt_masks'] = bitmaps
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            results[key] = results[key][kept]

    @staticmethod
    def _add(results: dict, other: dict, chosen: np.ndarray, pasted: np.ndarray) -> None:
        """Append the pasted instances, whose masks may overlap as they did in their image."""
        masks = other['gt_masks'][chosen].astype(bool) & pasted
        bitmaps = _bitmaps(masks, pasted.shape)
        boxes = results['gt_bboxes']
        results['gt_bboxes'] = boxes.cat([boxes, bitmaps.get_bboxes(type(boxes))])
        results['gt_masks'] = _bitmaps(np.concatenate([results['gt_masks'].masks, bitmaps.masks]), pasted.shape)
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            results[key] = np.concatenate([results[key], other[key][chosen]])

    def __repr__(self) -> str:
        return f'{type(self).__name__}(max_pasted={self.max_pasted}, min_visible={self.min_visible})'


def _on_canvas(other: dict, size: tuple[int, int]) -> dict:
    """The other image's arrays cut or filled to (height, width), and ``areas`` of its masks before that."""
    height, width = size
    fill = dict(img=0, gt_seg_map=VOID_LABEL, gt_masks=0)
    masks = other['gt_masks'].masks
    arrays = {key: other[key] for key in ('img', 'gt_seg_map') if key in other} | dict(gt_masks=masks)
    moved = {key: other[key] for key in ('gt_bboxes_labels', 'gt_ignore_flags')}
    moved['areas'] = masks.sum(axis=(1, 2))
    for key, array in arrays.items():
        rows = 1 if key == 'gt_masks' else 0
        array = array[(slice(None),) * rows + (slice(height), slice(width))]
        missing = [(0, 0)] * array.ndim
        missing[rows], missing[rows + 1] = (0, height - array.shape[rows]), (0, width - array.shape[rows + 1])
        moved[key] = np.pad(array, missing, constant_values=fill[key]) if np.any(missing) else array
    return moved


def _seen(masks: np.ndarray, sample: dict) -> np.ndarray:
    """Pixels that show each instance, bool of shape (n, H, W): those of its mask of its class in the semantic map."""
    masks = masks.astype(bool)
    return (
        masks & (sample['gt_seg_map'] == sample['gt_bboxes_labels'][:, None, None]) if 'gt_seg_map' in sample else masks
    )


def _clear(semantic: np.ndarray, left: np.ndarray, labels: np.ndarray, kept: np.ndarray) -> None:
    """Make void, in place, what is left of dropped instances where no other one of the class is."""
    for place in np.flatnonzero(~kept):
        same = kept & (labels == labels[place])
        shown = left[place] & (semantic == labels[place]) & ~left[same].any(axis=0)
        semantic[shown] = VOID_LABEL


def _bitmaps(masks: np.ndarray, size: tuple[int, int]) -> BitmapMasks:
    return BitmapMasks(masks.astype(np.uint8), *size)
