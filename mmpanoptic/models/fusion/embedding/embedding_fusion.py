"""Fusion by pixel embeddings: every pixel is assigned to the query that it is most similar to."""

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.fusion.base import BaseFusionHead
from mmpanoptic.models.fusion.segments import list_segments, thing_id
from mmpanoptic.models.fusion.stuff import STUFF_AREA_MODES, paste_stuff
from mmpanoptic.models.fusion.transfer import fetch
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import EmbeddingMap, Evidence
from mmpanoptic.utils import require_choice

from .best_queries import best_queries, pixel_windows
from .query_map import PixelMap, QueryMap
from .similarity import semantic_probabilities, similarities

CATEGORY_SOURCES = ('detector', 'embedding')


@MODELS.register_module()
class EmbeddingFusion(BaseFusionHead):
    """Assign every pixel to the stuff class or the instance whose query is most similar to the pixel's embedding.

    Only pixels in the predicted box of an instance can be assigned to it: pixels whose centre (x + .5, y + .5) lies in
    the box, the left and top edges included, the right and bottom edges excluded. Ties go to the lowest index, stuff
    first.

    Source: Gao et al., Learning Category- and Instance-Aware Pixel Embedding for Fast Panoptic Segmentation, section
    III-D, https://arxiv.org/abs/2009.13342

    Args:
        num_things_classes: Number of thing classes, labels 0 to T - 1.
        num_stuff_classes: Number of stuff classes, labels T to T + S - 1.
        score_thr: Instances with a lower score are left out.
        box_scale: Factor by which the box that confines an instance is enlarged about its centre; None: instances are
            not confined.
        category_from: Source of an instance's class: the 'detector', or its 'embedding', see ``labels``.
        stuff_area_limit: Stuff that would get fewer pixels than this stays void.
        stuff_area_mode: What the limit applies to: 'segment', all pixels of a class in the image, or 'component', each
            8-connected component of these pixels.
        piece_pixels: Number of pixels that are processed at once; bounds the memory. None: 2 ** 14 on a CPU, which fits
            in its caches, 2 ** 18 elsewhere.
        init_cfg: As in mmengine's BaseModule.

    Raises:
        ValueError: If one of the choices is unknown.
    """

    takes = (EmbeddingMap,)

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        score_thr: float = 0.25,
        box_scale: float | None = 1.0,
        category_from: str = 'detector',
        stuff_area_limit: float = 4096,
        stuff_area_mode: str = 'segment',
        piece_pixels: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(num_things_classes, num_stuff_classes, init_cfg=init_cfg)
        self.score_thr = score_thr
        self.box_scale = box_scale
        self.category_from = category_from
        self.stuff_area_limit = stuff_area_limit
        self.stuff_area_mode = stuff_area_mode
        self.piece_pixels = piece_pixels
        require_choice('category_from', category_from, CATEGORY_SOURCES)
        require_choice('stuff_area_mode', stuff_area_mode, STUFF_AREA_MODES)

    def fuse(self, evidence: Evidence[EmbeddingMap]) -> tuple[Tensor, list[dict]]:
        """Fuse one image.

        Args:
            evidence: An embedding map, and instances with ``embeddings`` and with ``labels`` as the method ``labels``
                returns them.

        Returns:
            Panoptic map, int32 of shape (H, W) on the device of the evidence, and its ``segments_info``. Instances
            without a pixel are left out; the others are numbered in their given order.

        Raises:
            ValueError: If the shapes do not fit.
        """
        instances, maps = evidence.instances, evidence.stuff
        if maps.semantic is None and len(maps.stuff_queries) != self.num_stuff_classes:
            raise ValueError(f'{len(maps.stuff_queries)} stuff queries for {self.num_stuff_classes} stuff classes')
        kept: list[int] = []
        labels: list[int] = []
        scores: list[float] = []
        boxes, queries = maps.embedding.new_zeros(0, 4), maps.stuff_queries[:0]
        if len(instances):
            all_scores, all_labels = fetch(instances.scores, instances.labels)
            index = (all_scores >= self.score_thr).nonzero().flatten()
            boxes, queries = instances.bboxes, instances.embeddings
            if queries.shape[1:] != maps.stuff_queries.shape[1:]:
                raise ValueError(f'embeddings of shape {tuple(queries.shape)} for {len(maps.embedding)} dimensions')
            if len(index) < len(instances):
                chosen = index.to(boxes.device)
                boxes, queries = boxes.index_select(0, chosen), queries.index_select(0, chosen)
            kept, labels, scores = index.tolist(), all_labels.tolist(), all_scores.tolist()
        windows = pixel_windows(boxes, evidence.output_size, self.box_scale)
        if maps.semantic is None:
            queries = torch.cat([maps.stuff_queries, queries.to(maps.stuff_queries)])
            found = self._best(evidence, maps.embedding, queries, windows)
        else:
            semantic = self._best(evidence, maps.semantic, None, windows[:0])
            found = self._best(evidence, maps.embedding, queries, windows)
            found = _things_where(semantic, found, self.num_stuff_classes)
        return self._panoptic(found, kept, labels, scores)

    def labels(self, instances: InstanceData, thing_queries: Tensor | None) -> Tensor:
        """Label of each instance, of shape (N,): the detector's, or the class with the most similar query.

        Args:
            instances: ``labels`` of shape (N,) and ``embeddings`` of shape (N, D).
            thing_queries: Embeddings of the thing classes, of length 1, of shape (T, D); needed with
                ``category_from='embedding'``.

        Raises:
            ValueError: If ``thing_queries`` are needed and not of all thing classes.
        """
        if self.category_from == 'detector':
            return instances.labels
        if thing_queries is None or len(thing_queries) != self.num_things_classes:
            raise ValueError(f"category_from='embedding' needs queries of all {self.num_things_classes} thing classes")
        with torch.autocast(thing_queries.device.type, enabled=False):
            return (instances.embeddings @ thing_queries.T).argmax(dim=1)

    def with_confidence(
        self, evidence: Evidence[EmbeddingMap], panoptic: Tensor, segments_info: list[dict]
    ) -> list[dict]:
        """Add ``similarity``, the mean cosine similarity of pixels to their query, to the segments of a map.

        If queries decide about stuff, the ``score`` of stuff is its similarity, or 0 if that is negative. If the
        semantic branch decides, its ``score`` is the mean softmax of that branch, and it has no ``similarity``.

        Args:
            evidence, panoptic, segments_info: See :class:`~mmpanoptic.models.fusion.BaseFusionHead`.
        """
        maps, num_things = evidence.stuff, self.num_things_classes
        things = [segment for segment in segments_info if segment['instance'] is not None]
        stuff = segments_info[len(things) :]
        if not segments_info:
            return []
        numbers = [s['id'] for s in segments_info] + [s['instance'] for s in things] + [s['label'] for s in stuff]
        ids, chosen = torch.tensor(numbers, dtype=torch.int32).to(panoptic.device).split(len(segments_info))
        of_things, of_stuff = chosen.long().split([len(things), len(stuff)])
        queries, by_queries = maps.stuff_queries[:0], ids
        if things:
            queries = evidence.instances.embeddings[of_things].to(maps.stuff_queries)
        if maps.semantic is None:
            queries = torch.cat([queries, maps.stuff_queries[of_stuff - num_things]])
        else:
            by_queries = ids[: len(things)]
        found = [similarities(evidence, panoptic, by_queries, queries)]
        if maps.semantic is not None and stuff:
            found.append(semantic_probabilities(evidence, maps.semantic, panoptic, ids[len(things) :], num_things))
        values = fetch(torch.cat(found))[0].tolist()
        rated = [s | dict(similarity=value) for s, value in zip(things, values, strict=False)]
        for segment, value in zip(stuff, values[len(things) :], strict=True):
            more = dict(similarity=value) if maps.semantic is None else {}
            rated.append(segment | dict(score=max(value, 0.0)) | more)
        return rated

    def _best(
        self, evidence: Evidence[EmbeddingMap], scored: Tensor, queries: Tensor | None, windows: Tensor
    ) -> QueryMap | PixelMap:
        size, scale, stride = evidence.output_size, evidence.scale, evidence.stuff.stride
        return best_queries(scored, queries, windows, size, scale, stride, self.piece_pixels)

    def _panoptic(
        self, found: QueryMap | PixelMap, kept: list[int], labels: list[int], scores: list[float]
    ) -> tuple[Tensor, list[dict]]:
        """Panoptic map and segments from a map of queries: S stuff classes, then the instances in ``kept``."""
        num_stuff, device = self.num_stuff_classes, found.device
        if self.stuff_area_mode == 'component' and isinstance(found, PixelMap):  # OpenCV finds them, on the CPU
            found = found.cpu()
        counts = fetch(found.counts())[0].tolist()
        values = torch.full((len(counts),), self.num_classes, dtype=torch.int32)
        pasted: list[int] = []
        for query, index in enumerate(kept, num_stuff):
            if counts[query]:
                pasted.append(index)
                values[query] = thing_id(labels[index], len(pasted))
        if self.stuff_area_mode == 'segment':  # the counts suffice: no need to read every pixel once more
            stuff = [s for s in range(num_stuff) if counts[s] and counts[s] >= self.stuff_area_limit]
            values[stuff] = torch.tensor(stuff, dtype=torch.int32) + self.num_things_classes
            stuff_labels = [s + self.num_things_classes for s in stuff]
            panoptic = found.render(values.to(device))
        else:
            panoptic, stuff_labels = paste_stuff(
                found.render(values),
                found.render(torch.arange(len(values)).clamp(max=num_stuff)),
                self.num_things_classes,
                num_stuff,
                self.stuff_area_limit,
                self.stuff_area_mode,
            )
        return panoptic.to(device), list_segments(pasted, labels, scores, stuff_labels)


def _things_where(semantic: QueryMap | PixelMap, instances: QueryMap | PixelMap, thing: int) -> PixelMap:
    """Stuff from one map, and instances from the other map wherever the first one has the value ``thing``."""
    stuff = semantic.indices()
    return PixelMap(torch.where(stuff == thing, instances.indices() + thing, stuff), thing + instances.num_queries)
