"""Measure the times of a model's parts."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import nn

from mmpanoptic.models import CIAEHead, RankingFusion
from mmpanoptic.models.fusion import BaseFusionHead
from mmpanoptic.models.fusion.paste.instances import order_instances
from mmpanoptic.structures import EmbeddingMap, Evidence

#: Parts of the time of :class:`RankingFusion`.
RANKING_PARTS = ('module', 'scores', 'order', 'merge')


def drawn_instances(number: int, num_classes: int, size: tuple[int, int], device: torch.device) -> InstanceData:
    """Random ellipses as instances; their sides are 1/40 to 1/2 of the image's, small ones are more frequent.

    Args:
        number: Number of instances.
        num_classes: Number of classes; labels are 0 to ``num_classes - 1`` in turn.
        size: Height and width of the image.
        device: Device of the result.

    Returns:
        ``bboxes``, ``labels``, ``scores`` (1 to 0.9) and ``masks`` (bool of shape (number, height, width)).
    """
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor(size) / 2 * 20 ** -torch.rand((number, 2), generator=generator)
    first = torch.rand((number, 2), generator=generator) * (torch.tensor(size) - sides)
    masks = torch.zeros((number, *size), dtype=torch.bool)
    for mask, center, radius in zip(masks, first + sides / 2, sides / 2, strict=True):
        rows, columns = (((torch.arange(n) + 0.5 - c) / r) ** 2 for n, c, r in zip(size, center, radius, strict=True))
        mask |= rows[:, None] + columns <= 1
    boxes = torch.cat([first.flip(1), (first + sides).flip(1)], dim=1)
    scores = torch.linspace(1, 0.9, number)
    labels = torch.arange(number) % num_classes
    return InstanceData(bboxes=boxes, labels=labels, scores=scores, masks=masks).to(device)


def with_instances(evidence: Evidence, instances: InstanceData) -> Evidence:
    """Evidence with other instances. With an embedding map, they get the embedding at the centre of their box."""
    instances = instances.new()
    if isinstance(evidence.stuff, EmbeddingMap):
        centres = instances.bboxes.view(-1, 2, 2).mean(dim=1) * instances.bboxes.new_tensor(evidence.scale)
        instances.embeddings = CIAEHead.queries(evidence.stuff.embedding, centres.long())
    return replace(evidence, instances=instances)


class Stopwatch:
    """Measure milliseconds by part; on a GPU, until its work is done.

    Args:
        device: Device that does the work.

    Attributes:
        spent: Milliseconds by part since this dict was last cleared.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[str, float] = {}

    def now(self) -> float:
        """Time of a clock in milliseconds, after the GPU has finished its work."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return 1000 * time.perf_counter()

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Add the time inside of this context to a part."""
        start = self.now()
        yield
        self.spent[part] = self.spent.get(part, 0.0) + self.now() - start

    @contextmanager
    def of_module(self, module: nn.Module, part: str) -> Iterator[None]:
        """Add the time of all calls of a module inside of this context to a part."""
        starts: list[float] = []
        handles = [
            module.register_forward_pre_hook(lambda *_: starts.append(self.now())),
            module.register_forward_hook(
                lambda *_: self.spent.update({part: self.spent.get(part, 0.0) + self.now() - starts.pop()})
            ),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@torch.no_grad()
def time_prediction(
    model: BaseModel, samples: list[dict], draw: Callable[[tuple[int, int]], InstanceData] | None = None
) -> dict[str, float]:
    """Milliseconds of a batch by part.

    Args:
        model: A model in eval mode.
        samples: The batch, a list of samples as a dataset returns them.
        draw: Returns the instances to fuse instead of the detected ones, given height and width of the image.

    Returns:
        'total'; for models of this package also 'network' and 'fusion'; with :class:`RankingFusion` also
        ``RANKING_PARTS``, which make up 'fusion'.
    """
    watch = Stopwatch(next(model.parameters()).device)
    if not hasattr(model, 'evidence'):
        with watch.of('total'):
            model.test_step(pseudo_collate(samples))
        return watch.spent
    drawn = [None if draw is None else draw(tuple(sample['data_samples'].ori_shape[:2])) for sample in samples]
    with watch.of('network'):
        data = model.data_preprocessor(pseudo_collate(samples), False)
        found = model.evidence(data['inputs'], data['data_samples'])
    for evidence, instances in zip(found, drawn, strict=True):
        time_fusion(
            model.panoptic_fusion_head,
            evidence if instances is None else with_instances(evidence, instances),
            watch,
        )
    return watch.spent | dict(total=watch.spent['network'] + watch.spent['fusion'])


def time_fusion(head: BaseFusionHead, evidence: Evidence, watch: Stopwatch) -> None:
    """Add the time of fusion to a watch; for :class:`RankingFusion`, also the times of its steps."""
    if not isinstance(head, RankingFusion):
        with watch.of('fusion'):
            head.predict([evidence])
        return
    steps = Stopwatch(watch.device)
    order: list[int] = []
    if len(evidence.instances):
        with steps.of('scores'), steps.of_module(head.ranking, 'module'):
            scores = head.ranking_scores(evidence)
        with steps.of('order'):
            order = order_instances(evidence.instances.scores.cpu(), head.score_thr, scores.cpu())
    with steps.of('merge'):
        head.fuse(evidence, order)
    spent = {part: steps.spent.get(part, 0.0) for part in RANKING_PARTS}
    spent['scores'] -= spent['module']
    for part, value in (('fusion', sum(spent.values())), *spent.items()):
        watch.spent[part] = watch.spent.get(part, 0.0) + value
