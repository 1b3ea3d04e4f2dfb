"""Copy-paste for panoptic data: image, instances and semantic map together."""

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
    """Paste a random subset of another image's objects in front of the image.

    Source: Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, section 3,
    https://arxiv.org/abs/2012.07177. mmdet's ``CopyPaste`` does not change the semantic map; this class updates it to
    the map that the loader would have made for the new image. Use it in the pipeline of a ``MultiImageMixDataset``.

    The visible pixels of an object are pasted: those of its mask where the semantic map has its class. Crowds are not
    pasted. Both images are aligned at the top left corner; pixels beyond the image are cut off.

    Overlaps of masks (of an ``inst_ann_file``) within each of the two images are kept, so that the ranking module
    learns only from annotated overlaps. Pixels that pasted objects hide are removed from the masks of the image, as in
    the paper, and the boxes of changed masks are computed anew.

    Args:
        max_pasted: Largest number of objects to paste; the number is drawn uniformly from 0 on, as in mmdet.
        min_visible: An object of the image is dropped if less than this share of its visible pixels, or none, remains
            visible; these pixels become void. An object of the other image is not pasted if less than this share of
            its mask is visible. The paper drops only objects that are hidden completely, which is 0; the default is
            ours.

    Raises:
        UserError: If annotations of instances are missing in the pipeline, or there is no other image.
    """

    def __init__(self, max_pasted: int = 100, min_visible: float = 0.1) -> None:
        self.max_pasted = max_pasted
        self.min_visible = min_visible

    def get_indexes(self, dataset: Sized) -> int:
        """Index of the other image, for ``MultiImageMixDataset``."""
        return int(np.random.randint(len(dataset)))

    def transform(self, results: dict) -> dict:
        """Paste into ``results`` from ``results['mix_results'][0]``; both have no padding or the same padding.

        Changes ``img``, ``gt_bboxes``, ``gt_bboxes_labels``, ``gt_ignore_flags``, ``gt_masks`` and ``gt_seg_map``.
        """
        others = results.get('mix_results')
        if not others:
            raise UserError('PanopticCopyPaste has no other image: put it into the pipeline of a MultiImageMixDataset')
        for sample in (results, others[0]):
            if missing := [key for key in _NEEDED if key not in sample]:
                path = sample.get('img_path')
                raise UserError(f'{path}: PanopticCopyPaste lacks {", ".join(missing)}: load boxes, labels and masks')
            if 'gt_panoptic_map' in sample:
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
        """Indices of the objects to paste, ascending."""
        visible = seen.sum(axis=(1, 2))
        possible = np.flatnonzero((visible > 0) & (visible >= self.min_visible * areas) & ~ignored.astype(bool))
        number = np.random.randint(min(len(possible), self.max_pasted) + 1)
        return np.sort(np.random.choice(possible, number, replace=False))

    def _hide(self, results: dict, pasted: np.ndarray) -> None:
        """Remove hidden pixels from the image's own instances, and drop instances with too few visible pixels."""
        masks, boxes = results['gt_masks'].masks.astype(bool), results['gt_bboxes']
        seen = _seen(masks, results)
        before, after = seen.sum(axis=(1, 2)), (seen & ~pasted).sum(axis=(1, 2))
        left = masks & ~pasted
        # Instances that were hidden before are kept, as the loader keeps them.
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
        """Append the pasted instances; their masks may overlap as in their own image."""
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
    """Crop or pad the other image's arrays to (height, width), and add ``areas``, those of its masks before."""
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
    """Visible pixels of each instance, bool of shape (n, H, W): its mask where the semantic map has its class."""
    masks = masks.astype(bool)
    return (
        masks & (sample['gt_seg_map'] == sample['gt_bboxes_labels'][:, None, None]) if 'gt_seg_map' in sample else masks
    )


def _clear(semantic: np.ndarray, left: np.ndarray, labels: np.ndarray, kept: np.ndarray) -> None:
    """Make remaining pixels of dropped instances void, in place, except those of kept instances of the same class."""
    for place in np.flatnonzero(~kept):
        same = kept & (labels == labels[place])
        shown = left[place] & (semantic == labels[place]) & ~left[same].any(axis=0)
        semantic[shown] = VOID_LABEL


def _bitmaps(masks: np.ndarray, size: tuple[int, int]) -> BitmapMasks:
    return BitmapMasks(masks.astype(np.uint8), *size)
