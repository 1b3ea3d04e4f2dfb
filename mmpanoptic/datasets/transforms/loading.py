"""Loading images and panoptic annotations."""

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations as MMDetLoadAnnotations
from mmdet.structures.mask import BitmapMasks

from mmpanoptic.formats.images import check_complete, decoding, image_size, is_tiff, remedy_of
from mmpanoptic.formats.masks import check_mask
from mmpanoptic.formats.panoptic_png import decode_panoptic_png, segment_runs
from mmpanoptic.registry import TRANSFORMS
from mmpanoptic.utils import DatasetError, read_bytes

VOID_LABEL = 255


@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """mmcv's loader with errors that name the file.

    ``ignore_empty=True`` has no effect, because a training must not skip broken images silently. The size is read from
    the header: an image whose size is not the annotated one, or larger than allowed
    (:func:`~mmpanoptic.formats.images.set_max_pixels`), is not decoded.

    Raises:
        DatasetError: If a file is missing, truncated, unreadable, too large, or not of the annotated size.
    """

    def transform(self, results: dict) -> dict:
        """Add ``img`` (H, W, 3), ``img_shape`` and ``ori_shape``, both (H, W)."""
        path = results['img_path']
        data = read_bytes(path, self.backend_args)
        check_complete(data, path)
        annotated = results.get('height'), results.get('width')
        claimed = image_size(data, path)
        if claimed != annotated[::-1]:  # before decoding, which may rotate the image
            _check_annotated(claimed, annotated, path, data)
        with decoding(path):
            image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise DatasetError(f'{path} cannot be decoded as an image: {remedy_of(data)}')
        _check_annotated(image.shape[:2], annotated, path, data)
        if self.to_float32:
            image = image.astype(np.float32)
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results


def _check_annotated(size: tuple[int, int], annotated: tuple[int | None, int | None], path: str, data: bytes) -> None:
    if None not in annotated and size != annotated:
        # OpenCV turns a TIFF with every flag.
        way_out = 'write it again upright' if is_tiff(data) else "use color_type='color_ignore_orientation'"
        raise DatasetError(
            f'{path} is {size[0]}x{size[1]} (height x width), its annotation says {annotated[0]}x{annotated[1]}: wrong '
            f'file, or an EXIF rotation (then {way_out})'
        )


@TRANSFORMS.register_module()
class LoadAnnotations(MMDetLoadAnnotations):
    """mmdet's loader of boxes, labels and masks, which checks masks before pycocotools reads them.

    Raises:
        DatasetError: If a mask is not valid for its image, see :func:`~mmpanoptic.formats.masks.check_mask`.
    """

    def _process_masks(self, results: dict) -> list:
        for place, instance in enumerate(results.get('instances', ())):
            where = f'{results["img_path"]}: instance {place}'
            check_mask(instance.get('mask'), results['height'], results['width'], where)
        return super()._process_masks(results)


@TRANSFORMS.register_module()
class LoadPanopticAnnotations(LoadAnnotations):
    """Boxes, labels, masks, the semantic map and the panoptic map from one pass over the panoptic PNG.

    It adds ``gt_bboxes``, ``gt_bboxes_labels``, ``gt_ignore_flags`` (crowds), ``gt_masks`` (:obj:`BitmapMasks`, decoded
    from the instances JSON if the dataset has one), ``gt_seg_map`` (H, W) uint8 of contiguous labels with void 255, and
    ``gt_panoptic_map`` (H, W) int32 of the PNG's ids with void 0.

    ``gt_panoptic_map`` is for evaluation: geometric transforms do not change it, so it keeps the original size.
    Training pipelines switch it off.

    Args:
        with_bbox, with_label, with_mask, with_seg: Whether to add boxes, labels, masks and ``gt_seg_map``.
        with_panoptic: Whether to add ``gt_panoptic_map``.
        backend_args: Storage backend, see :mod:`mmengine.fileio`.

    Raises:
        DatasetError: If the PNG is missing or truncated, differs from the image in size, or has ids that
            ``segments_info`` lacks.
    """

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = True,
        with_seg: bool = True,
        with_panoptic: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(
            with_bbox=with_bbox,
            with_label=with_label,
            with_mask=with_mask,
            with_seg=with_seg,
            backend_args=backend_args,
        )
        self.with_panoptic = with_panoptic

    def transform(self, results: dict) -> dict:
        """Add the annotations; images without ground truth (test sets) pass unchanged."""
        path = results.get('seg_map_path')
        if path is None:
            return results
        if self.with_bbox:
            self._load_bboxes(results)
        if self.with_label:
            self._load_labels(results)
        if not (self.with_mask or self.with_seg or self.with_panoptic):
            return results

        segments = results['segments_info']
        size = results['height'], results['width']
        ids = decode_panoptic_png(read_bytes(path, self.backend_args), path, size)
        indices, lengths = segment_runs(ids, segments, path)
        if self.with_seg:
            labels = np.array([VOID_LABEL] + [segment['label'] for segment in segments], np.uint8)
            results['gt_seg_map'] = np.repeat(labels[indices], lengths).reshape(ids.shape)
        if self.with_mask:
            if results['instances'] and 'mask' in results['instances'][0]:
                results['ori_shape'] = ids.shape
                self._load_masks(results)
            else:
                index_map = np.repeat(indices, lengths).reshape(ids.shape)
                results['gt_masks'] = _cut_masks(index_map, results['instances'])
        if self.with_panoptic:
            results['gt_panoptic_map'] = ids
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(with_bbox={self.with_bbox}, with_label={self.with_label}, '
            f'with_mask={self.with_mask}, with_seg={self.with_seg}, with_panoptic={self.with_panoptic})'
        )


def _cut_masks(index_map: np.ndarray, instances: list[dict]) -> BitmapMasks:
    height, width = index_map.shape
    wanted = np.array([instance['segment'] + 1 for instance in instances], index_map.dtype)
    masks = (index_map[None] == wanted[:, None, None]).view(np.uint8)
    return BitmapMasks(masks, height, width)
