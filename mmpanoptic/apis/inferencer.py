"""From images to panoptic maps with a trained model."""

import itertools
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from mmpanoptic.datasets import steps_of
from mmpanoptic.engine.checkpoint_files import read_checkpoint
from mmpanoptic.engine.checkpoints import first_misfit, require_finite, weights_and_meta
from mmpanoptic.engine.class_counts import counted_model
from mmpanoptic.engine.components import building
from mmpanoptic.engine.configs import load_config, require_keys
from mmpanoptic.engine.data_places import LOADERS
from mmpanoptic.models.detectors.samples import add_predictions
from mmpanoptic.registry import MODELS, TRANSFORMS
from mmpanoptic.results import Instances, PanopticResult, Segment
from mmpanoptic.structures import INSTANCE_OFFSET, Evidence, panoptic_to_coco, segments_of_map
from mmpanoptic.utils import UserError

from .categories import categories_by_label, meta_of_model
from .image_lists import Image, Images, list_images


class Observation(NamedTuple):
    """What a model has seen in one image, for those who want to look inside.

    Attributes:
        result: The result.
        evidence: What it was fused from; None from models of instances only.
        metainfo: Of the image as it went into the network: ``img_shape``, ``ori_shape``, ``batch_input_shape``, ...
    """

    result: PanopticResult
    evidence: Evidence | None
    metainfo: dict


class PanopticInferencer:
    """Predicts images with the test pipeline of a config.

    Example:
        >>> inferencer = PanopticInferencer('config.py', 'checkpoint.pth')
        >>> for result in inferencer('images/'):
        ...     print(result.path, [segment.name for segment in result.segments])
        ...     picture = result.draw()

    Args:
        config: Config, or its file.
        checkpoint: File or URL of its trained weights.
        device: Where to run, such as 'cuda:1'; by default the GPU if there is one.
        trust_checkpoint: Load a checkpoint that holds Python objects, which can run any code.
        allow_nan: Load a checkpoint that holds values that are not finite.

    Raises:
        UserError: If a file is missing, the weights do not fit the config, or the classes' names are not to be found.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike,
        device: str | torch.device | None = None,
        trust_checkpoint: bool = False,
        allow_nan: bool = False,
    ) -> None:
        config = config if isinstance(config, Config) else load_config(os.fspath(config))
        self.model, meta = load_model(config, checkpoint, device, trust_checkpoint, allow_nan)
        #: ``classes``, ``palette`` and, where they can be had, ``categories``.
        self.dataset_meta: dict = meta_of_model(meta, config, os.fspath(checkpoint))
        num_classes = getattr(getattr(self.model, 'panoptic_fusion_head', None), 'num_classes', None)
        if num_classes not in (None, len(self.dataset_meta['classes'])):
            raise UserError(f'{checkpoint}: names of {len(self.dataset_meta["classes"])} classes for a model of '
                            f'{num_classes}: set the num_*_classes of the config to those of its dataset')  # fmt: skip
        self._load_file, self._load_array, self._prepare = _transforms(config)
        self._categories = categories_by_label(self.dataset_meta, getattr(self.model, 'num_things_classes', None))

    def __call__(self, images: Images, batch_size: int = 1) -> Iterator[PanopticResult]:
        """Predict images one after the other, as the results are asked for.

        Args:
            images: What :func:`list_images` takes.
            batch_size: Images that go through the model at a time. Those of different sizes are padded to the
                largest, which can change a few pixels.

        Yields:
            One result an image, in their order.

        Raises:
            UserError: If a file is missing, or is no image that can be read.
        """
        images = enumerate(list_images(images))
        while batch := list(itertools.islice(images, batch_size)):
            loaded, inputs, samples = self._load_batch(batch)
            with torch.no_grad():
                samples = self.model.predict(inputs, samples)
            yield from (self._to_result(one, sample.cpu()) for one, sample in zip(loaded, samples, strict=True))

    @torch.no_grad()
    def observe(self, image: Image) -> Observation:
        """Predict one image and keep what the result was made from.

        Args:
            image: A file, or an image (uint8 RGB of shape (H, W, 3)).

        Raises:
            UserError: If the file is missing, or is no image that can be read.
        """
        (loaded,), inputs, samples = self._load_batch(list(enumerate(list_images(image))))
        evidence = None
        if hasattr(self.model, 'evidence'):
            (evidence,) = found = self.model.evidence(inputs, samples)
            (sample,) = add_predictions(samples, found, self.model.fuse(found))
        else:
            (sample,) = self.model.predict(inputs, samples)
        return Observation(self._to_result(loaded, sample.cpu()), evidence, sample.metainfo)

    def _load_batch(self, images: list[tuple[int, str | np.ndarray]]) -> tuple[list[dict], Tensor, SampleList]:
        """Numbered images as they were loaded, and as the model takes them."""
        loaded = [self._load(image, number) for number, image in images]
        data = self.model.data_preprocessor(pseudo_collate([self._prepare(dict(one)) for one in loaded]), False)
        return loaded, data['inputs'], data['data_samples']

    def _load(self, image: Image, number: int) -> dict:
        """A pipeline's dict with ``img``, BGR as files are loaded."""
        if isinstance(image, np.ndarray):
            return self._load_array(dict(img=np.ascontiguousarray(image[..., ::-1]), img_id=number))
        return self._load_file(dict(img_path=image, img_id=number))

    def _to_result(self, loaded: dict, sample: DetDataSample) -> PanopticResult:
        id_map, segments = None, []
        if 'pred_panoptic_seg' in sample:
            id_map, segments = self._to_segments(sample.pred_panoptic_seg)
        return PanopticResult(
            path=loaded['img_path'],
            image=np.ascontiguousarray(loaded['img'][..., ::-1]).astype(np.uint8, copy=False),
            id_map=id_map,
            segments=segments,
            instances=_to_instances(sample.get('pred_instances', InstanceData())),
            categories=self._categories,
        )

    def _to_segments(self, found: PixelData) -> tuple[np.ndarray, list[Segment]]:
        """The map of ids and the segments of a panoptic map in mmdet's encoding."""
        panoptic, void = found.sem_seg[0].numpy(), len(self._categories)
        infos = found.get('segments_info')
        if infos is None:  # a fusion head of mmdet
            infos = segments_of_map(panoptic, void)
        id_map, placed = panoptic_to_coco(panoptic, infos, range(void), void)
        return id_map, [
            Segment(
                id=place['id'],
                label=info['label'],
                name=self._categories[info['label']]['name'],
                isthing=info['id'] >= INSTANCE_OFFSET,
                score=info.get('score'),
                area=place['area'],
                bbox=tuple(place['bbox']),
                instance=info.get('instance'),
            )
            for info, place in zip(infos, placed, strict=True)
        ]


def _to_instances(found: InstanceData) -> Instances:
    """Instances that a model has found, which lie on the CPU."""
    if 'labels' not in found:
        found = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0))
    masks = found.masks.numpy().astype(bool, copy=False) if 'masks' in found else None
    return Instances(found.bboxes.numpy(), found.labels.numpy(), found.scores.numpy(), masks)


def load_model(
    config: Config,
    checkpoint: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    trust_checkpoint: bool = False,
    allow_nan: bool = False,
) -> tuple[nn.Module, dict]:
    """Build the model of a config for testing.

    Args:
        config: The config. Numbers of classes that are 'auto' are the checkpoint's or, if it does not tell them, those
            of the data: of the test's, the validation's or the training's, whichever is there.
        checkpoint: File or URL of its weights; without, they are random.
        device: Where to put it; by default the GPU if there is one.
        trust_checkpoint, allow_nan: See :class:`PanopticInferencer`.

    Returns:
        The model in eval mode, and the checkpoint's ``meta``.

    Raises:
        UserError: If the checkpoint cannot be read, it is not one of this model, or there is no such device.
    """
    init_default_scope(config.get('default_scope', 'mmpanoptic'))
    require_keys(config, 'model')
    weights, meta = None, {}
    if checkpoint is not None:
        checkpoint = os.fspath(checkpoint)
        weights, meta = weights_and_meta(read_checkpoint(checkpoint, trust_checkpoint), checkpoint)
        if not allow_nan:
            require_finite(weights, checkpoint)
    parts = dict(model=counted_model(config, LOADERS[::-1], meta.get('dataset_meta')))
    with building(parts):
        model = revert_sync_batchnorm(MODELS.build(parts['model']))
    if weights is not None:
        if misfit := first_misfit(model, weights):  # mmengine only warns, and predictions are noise then
            raise UserError(
                f'{checkpoint} is not of the model that {config.filename or "the config"} describes: {misfit}'
            )
        model.load_state_dict(weights, strict=False)
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        return model.to(device).eval(), meta
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise UserError(f'device {device} cannot be used: {str(error).splitlines()[0]}') from None


def _transforms(config: Config) -> tuple:
    """Loaders of files and of arrays, and what follows them in the test pipeline but for loading annotations."""
    try:
        steps = steps_of(get_test_pipeline_cfg(config))
    except (AttributeError, RuntimeError, TypeError, LookupError):
        raise UserError(f'{config.filename or "the config"} has no test_dataloader.dataset.pipeline: set it') from None
    pipeline = [step for step in steps if 'Annotations' not in str(step['type'])]
    if not pipeline or 'LoadImageFromFile' not in str(pipeline[0]['type']):
        raise UserError('the test pipeline does not begin with LoadImageFromFile')
    load_array = dict(type='LoadImageFromNDArray', to_float32=pipeline[0].get('to_float32', False))
    with building(config, 'test_dataloader'):
        return TRANSFORMS.build(pipeline[0]), TRANSFORMS.build(load_array), Compose(pipeline[1:])
