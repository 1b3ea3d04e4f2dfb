"""Results of ``tools/test.py --out``: safe reading, scoring, drawing and repeated fusion."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.structures import InstanceData, PixelData
from pycocotools import mask as coco_masks

from mmpanoptic.formats.masks import check_mask
from mmpanoptic.models.fusion import BaseFusionHead
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import Evidence
from mmpanoptic.structures.plain_evidence import from_plain
from mmpanoptic.utils import UserError

from .checkpoint_files import read_checkpoint
from .checkpoints import first_misfit, weights_and_meta
from .class_counts import counted_model
from .components import building


def read_results(path: str) -> list[dict[str, Any]]:
    """Read the predictions by image that :class:`~mmpanoptic.evaluation.metrics.PredictionDump` has written.

    The file is read as a checkpoint, by a closed list of names: nothing in the file can run.

    Raises:
        UserError: If there is no such file, or it holds anything else.
    """
    try:
        content = read_checkpoint(path)
    except UserError as error:
        reason = str(error).split(', and loading')[0]
        raise UserError(f'no results of tools/test.py --out of this version: {reason}; write them anew') from None
    if not isinstance(content, list) or not all(isinstance(result, dict) and 'img_id' in result for result in content):
        raise UserError(f'{path} holds no list of predictions with img_id: write it by tools/test.py --out')
    return content


def in_order_of(results: list[dict[str, Any]], dataset: BaseDataset, path: str) -> list[dict[str, Any]]:
    """The results in the order of the images of a dataset.

    Args:
        results: See :func:`read_results`.
        dataset: The tested dataset.
        path: The file of the results, for messages.

    Raises:
        UserError: If images of the dataset and results do not correspond one to one.
    """
    by_id = {result['img_id']: result for result in results}
    ids = [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))]
    if len(set(ids)) < len(ids):
        raise UserError('images of the dataset have the same id: score one dataset at a time')
    if len(by_id) != len(results) or by_id.keys() != set(ids):
        raise UserError(
            f'{path} has {len(results)} results, the dataset of the config {len(ids)} images, of which '
            f'{len(by_id.keys() & set(ids))} are the same: give the config that the results were made with'
        )
    return [by_id[image_id] for image_id in ids]


def samples_of(results: list[dict[str, Any]], dataset: BaseDataset, path: str) -> Iterator[DetDataSample]:
    """Samples of a dataset, with their ground truth and with the predictions in ``results``, in the dataset's order.

    Args:
        results: See :func:`read_results`.
        dataset: The tested dataset, in test mode.
        path: The file of the results, for messages.

    Yields:
        The sample, with ``pred_instances`` (masks are tensors) and ``pred_panoptic_seg``.

    Raises:
        UserError: See :func:`in_order_of`; or if a result does not have the size of its image.
    """
    for index, result in enumerate(in_order_of(results, dataset, path)):
        sample = dataset[index]['data_samples']
        height, width = (int(side) for side in sample.ori_shape[:2])
        add_predictions(sample, result, (height, width), path)
        yield sample


def add_predictions(sample: DetDataSample, result: Mapping[str, Any], size: tuple[int, int], path: str) -> None:
    """Set ``pred_instances`` (masks are tensors) and ``pred_panoptic_seg`` of a sample.

    Args:
        sample: Any sample.
        result: One result, see :func:`read_results`.
        size: Height and width of its image.
        path: The file of the results, for messages.

    Raises:
        UserError: If the result is malformed or has another size.
    """
    try:
        _add_predictions(sample, result, size)
    except UserError:
        raise
    except Exception as error:  # the file may hold anything
        raise UserError(f'{path}: the result of image {result["img_id"]!r} does not fit it: {error}') from None


def _add_predictions(sample: DetDataSample, result: Mapping[str, Any], size: tuple[int, int]) -> None:
    """See :func:`add_predictions`; errors are not translated."""
    if 'pred_instances' in result:
        sample.pred_instances = _instances(result['pred_instances'], size, str(result['img_id']))
    if 'pred_panoptic_seg' in result:
        metainfo = dict(result['pred_panoptic_seg'])
        panoptic = metainfo.pop('sem_seg')
        if tuple(panoptic.shape[-2:]) != size:
            raise ValueError(f'a map of {tuple(panoptic.shape)} for an image of {size}')
        sample.pred_panoptic_seg = PixelData(sem_seg=panoptic, metainfo=metainfo)


def _instances(fields: Mapping[str, Any], size: tuple[int, int], where: str) -> InstanceData:
    fields = dict(fields)
    if isinstance(encoded := fields.get('masks'), list):
        for mask in encoded:
            counts = mask['counts'].decode('ascii', 'replace') if isinstance(mask['counts'], bytes) else mask['counts']
            check_mask({'size': mask['size'], 'counts': counts}, *size, where)
        masks = [coco_masks.decode(mask) for mask in encoded]
        fields['masks'] = torch.from_numpy(np.array(masks, bool).reshape(len(masks), *size))
    return InstanceData(**fields)


def kept_evidence(sample: DetDataSample) -> Evidence:
    """The evidence that was kept with the predictions of a sample.

    Raises:
        UserError: If none was kept, or it does not have the size of the map.
    """
    kept = sample.pred_panoptic_seg.get('evidence') if 'pred_panoptic_seg' in sample else None
    if not isinstance(kept, Mapping):
        raise UserError('the results hold no evidence to fuse again: write them by tools/test.py --out FILE --evidence')
    evidence = from_plain(kept, sample.pred_instances)
    size = tuple(sample.pred_panoptic_seg.sem_seg.shape[-2:])
    if tuple(evidence.output_size) != size:
        raise UserError(f'the results hold a map of {size} and evidence of {evidence.output_size}: write them anew')
    return evidence


def fuse_again(sample: DetDataSample, head: BaseFusionHead) -> None:
    """Replace the panoptic map of a sample by the map that a fusion head makes from the kept evidence.

    Raises:
        UserError: If no evidence was kept, or the head cannot fuse it.
    """
    (sample.pred_panoptic_seg,) = head.predict([kept_evidence(sample)])


def fusion_head(config: Config, checkpoint: str | None) -> BaseFusionHead:
    """Build the fusion head of a config; a head that has weights gets them from a checkpoint.

    Raises:
        UserError: If the config has no fusion head, or the checkpoint lacks the head's weights.
    """
    if config.model.get('panoptic_fusion_head') is None:
        raise UserError(f'{config.filename} has no model.panoptic_fusion_head: nothing can be fused by it')
    parts = dict(model=counted_model(config, ('test_dataloader',)))
    with building(parts):
        head = MODELS.build(parts['model'].panoptic_fusion_head).eval()
    if head.state_dict():
        if checkpoint is None:
            raise UserError(f'{type(head).__name__} has weights: give the checkpoint', 'checkpoint')
        weights, _ = weights_and_meta(read_checkpoint(checkpoint), checkpoint)
        prefix = 'panoptic_fusion_head.'
        weights = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if problem := first_misfit(head, weights):
            raise UserError(f'{checkpoint} does not fit {type(head).__name__} of the config: {problem}')
        head.load_state_dict(weights)
    return head
