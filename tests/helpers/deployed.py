"""Models that find a lot without a training, as they are and as ONNX files."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.runner import set_random_seed
from torch import nn

from mmpanoptic.apis import load_model
from mmpanoptic.apis.load import prediction_transforms
from mmpanoptic.deploy import OnnxPanoptic
from mmpanoptic.deploy.export import export_onnx
from mmpanoptic.engine.configs import load_config
from mmpanoptic.models.fusion.ranking.spatial_ranking_module import ConvOfClasses
from mmpanoptic.structures import Evidence

from .repo import CONFIGS

NUM_THINGS, NUM_STUFF = 7, 6
CATEGORIES = [
    dict(id=3 * label + 1, name=f'class {label}', isthing=int(label < NUM_THINGS), color=[label, 0, 0])
    for label in range(NUM_THINGS + NUM_STUFF)
]
#: Factors of weights, by the end of a layer's name, that give decisions a margin: random ones are all close calls.
FACTORS = dict(fc_cls=60, retina_cls=10, conv_cls=8, rpn_cls=10, retina_reg=10, fc_reg=10, conv_logits=100)
FACTORS |= dict(conv_embedding=20, ranking=3)


class Deployed(NamedTuple):
    """A model, its config and its ONNX file."""

    model: nn.Module
    config: Config
    path: Path

    def eager(self, image: np.ndarray) -> tuple[np.ndarray, list[dict]]:
        """Map (ids as in results) and ``segments_info`` by the model."""
        found = self.model.fuse([self._evidence(image)])[0]
        panoptic = found.sem_seg[0].numpy()
        ids = np.where(panoptic == self.model.num_classes, 0, panoptic + 1)
        return ids, found.segments_info

    def stuff_scores(self, image: np.ndarray, id_map: np.ndarray) -> dict[int, float]:
        """Scores of stuff by label in any map (ids as in results), by what the model finds in the image."""
        panoptic = torch.from_numpy(np.where(id_map == 0, self.model.num_classes, id_map - 1).astype(np.int32))
        labels = [int(value) for value in panoptic.unique() if NUM_THINGS <= value < self.model.num_classes]
        stuff = [dict(id=label, label=label, score=None, instance=None) for label in labels]
        head = self.model.panoptic_fusion_head
        return {one['label']: one['score'] for one in head.with_confidence(self._evidence(image), panoptic, stuff)}

    @torch.no_grad()
    def _evidence(self, image: np.ndarray) -> Evidence:
        _, load, prepare = prediction_transforms(self.config)
        read = Compose([load, prepare])(dict(img=np.ascontiguousarray(image[..., ::-1]), img_id=0))
        data = self.model.data_preprocessor(pseudo_collate([read]), False)
        return self.model.evidence(data['inputs'], data['data_samples'])[0]

    def session(self) -> OnnxPanoptic:
        """The file, on one thread."""
        return OnnxPanoptic(self.path, threads=1)


def deploy(
    name: str,
    path: Path,
    change: Callable[[Config], None] = lambda config: None,
    size: tuple[int, int] | None = None,
) -> Deployed:
    """Build a model with random weights, low thresholds and decisions that have a margin, and export it.

    Args:
        name: Config below ``configs/``, without its suffix.
        path: File to write.
        change: Is given the config before the model is built.
        size: Of all images; None: any.
    """
    config = load_config(str(CONFIGS / f'{name}.py'))
    config.model.panoptic_fusion_head.update(score_thr=0.1, stuff_area_limit=64)
    config.test_dataloader.dataset.pipeline[1].scale = (144, 96)
    change(config)
    set_random_seed(0)
    model, _ = load_model(config, device='cpu')
    model.init_weights()
    with torch.no_grad():
        for layer_name, layer in model.named_modules():
            kind = 'ranking' if isinstance(layer, ConvOfClasses) else layer_name.rpartition('.')[2]
            if kind in FACTORS and hasattr(layer, 'weight'):
                layer.weight.mul_(FACTORS[kind])
    export_onnx(model, config, CATEGORIES, path, size)
    return Deployed(model, config, path)


def blots(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image of soft blots, uint8 RGB of shape (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
