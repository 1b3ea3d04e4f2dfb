"""The result for one image: a panoptic map, its segments, and the detected instances.

OpenCV and Pillow are loaded when a result is drawn or saved, pycocotools when masks are encoded.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import numpy as np

from mmpanoptic.utils import UserError, require_choice, write_whole

from .coco import CocoImage, Id, WrittenSegment
from .ids import id_to_rgb

if TYPE_CHECKING:
    import supervision


#: Numbers that a model may give to a segment.
RATINGS = ('score', 'ranking_score', 'similarity')


@dataclass(frozen=True)
class Segment:
    """A segment of a panoptic map.

    Attributes:
        id: Value of its pixels in ``id_map``: ``label + 1`` for stuff, ``label + 1 + 1000 * k`` for the k-th thing, k =
            1, 2, ...
        label: Contiguous class, an index into ``categories``.
        name: Name of the class.
        isthing: Whether it is a thing, not stuff.
        score: Confidence, 0 to 1; None if the model gives none. docs/predict.md explains its meaning.
        area: Number of pixels.
        bbox: x, y, width and height in pixels.
        instance: Index into the result's ``instances``; None for stuff.
        ranking_score: Score of a thing by which models with a learned order (OANet) put it over others; else None.
        similarity: Mean cosine similarity of its pixels to its query in models that compare embeddings (CIAE); else
            None.
    """

    id: int
    label: int
    name: str
    isthing: bool
    score: float | None
    area: int
    bbox: tuple[int, int, int, int]
    instance: int | None
    ranking_score: float | None = None
    similarity: float | None = None


@dataclass(frozen=True, eq=False)
class Instances:
    """N detections, including those that are not in the panoptic map.

    Attributes:
        bboxes: Left, top, right and bottom in pixels, float32 of shape (N, 4).
        labels: Contiguous labels, int64 of shape (N,).
        scores: Scores from 0 to 1, float32 of shape (N,).
        masks: bool of shape (N, H, W); None from models without instance masks.
    """

    bboxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Any) -> 'Instances':
        """Select instances by anything that selects rows of an array."""
        masks = None if self.masks is None else self.masks[chosen]
        return Instances(self.bboxes[chosen], self.labels[chosen], self.scores[chosen], masks)


@dataclass(frozen=True, eq=False)
class PanopticResult:
    """Prediction for one image, at the image's original size.

    Attributes:
        path: Path or URL of the image; None if it was given as an array.
        image: The image, uint8 RGB of shape (H, W, 3).
        id_map: Panoptic map of segment ids, int32 of shape (H, W), 0 for void, see :class:`Segment`; None from models
            that predict only instances.
        segments: The segments of the map.
        instances: All detections.
        categories: A dict for each label: ``id`` in COCO's files (None if unknown), ``name``, ``isthing`` (0 or 1) and
            ``color`` (RGB).
    """

    path: str | None
    image: np.ndarray
    id_map: np.ndarray | None
    segments: Sequence[Segment]
    instances: Instances
    categories: Sequence[dict[str, Any]]

    def above(self, score_thr: float) -> 'PanopticResult':
        """The result without segments or instances below a score.

        Args:
            score_thr: Segments with a lower score become void; segments without a score stay. Without a map, instances
                with a lower score are left out.
        """
        if self.id_map is None:
            return replace(self, instances=self.instances[self.instances.scores >= score_thr])
        low = [one.id for one in self.segments if one.score is not None and one.score < score_thr]
        kept = [one for one in self.segments if one.id not in low]
        return replace(self, id_map=np.where(np.isin(self.id_map, low), 0, self.id_map), segments=kept)

    def draw(self, score_thr: float = 0.3, number: str | None = 'score') -> np.ndarray:
        """The image under its panoptic map or, without one, under its instances.

        Args:
            score_thr: Instances whose score is not above are not drawn. A panoptic map is drawn as it is: what is in
                it was decided by the fusion.
            number: The number of :data:`RATINGS` to write beside the names of segments that have it; None: no number.
                Instances have only a score.

        Returns:
            uint8 RGB, f times the image's size; f > 1 where a small image had to be enlarged to be read.

        Raises:
            ValueError: If there is no such number.
        """
        require_choice('number', number, (*RATINGS, None))
        from mmpanoptic.drawing import draw, scene

        canvas, factor = draw.upscale(self.image, scene.MIN_SIDE)
        classes = [category['name'] for category in self.categories]
        palette = [category['color'] for category in self.categories]
        if self.id_map is not None:
            segments = [dict(id=one.id, label=one.label, number=_number_text(one, number)) for one in self.segments]
            return scene.draw_map(canvas, factor, self.id_map, segments, classes, palette)
        shown = self.instances[self.instances.scores > score_thr]
        boxes = shown.bboxes if shown.bboxes.any() else None  # all 0 from detectors of masks alone
        labels = shown.labels.tolist()
        scores = shown.scores.tolist() if number == 'score' else [None] * len(labels)
        return scene.draw_found(canvas, factor, boxes, shown.masks, labels, scores, classes, palette)

    def save(self, path: str | os.PathLike, image_id: int = 1) -> None:
        """Write the result in COCO's format. An existing file is replaced completely or, after an error, not at all.

        Args:
            path: The JSON, with ``images``, ``annotations`` and ``categories``. The PNG of the panoptic map is written
                beside it, with the same stem. Without a map, the annotations are the instances.
            image_id: Id of the image in the JSON.

        Raises:
            UserError: If ``path`` does not end in ``.json``, or ids of categories are unknown.
            WriteError: If a file cannot be written.
        """
        path = Path(path)
        if path.suffix != '.json':
            raise UserError(f'{path} does not end in .json: the PNG would get its name')
        content: dict[str, Any] = dict(images=[self.coco_image(image_id)])
        if self.id_map is None:
            entries = self.coco_instances(image_id)
            content['annotations'] = [dict(id=number, **entry) for number, entry in enumerate(entries, 1)]
        else:
            png = path.with_suffix('.png')
            annotation = dict(image_id=image_id, file_name=png.name, segments_info=self.coco_segments())
            content['annotations'] = [annotation]
            from mmpanoptic.drawing.encode import encode_png

            write_whole(png, encode_png(id_to_rgb(self.id_map)))
        write_whole(path, json.dumps(content | dict(categories=list(self.categories))))

    def to_coco(self, image_id: int = 1) -> dict[str, Any]:
        """The result as entries of COCO's files.

        Args:
            image_id: Id of the image.

        Returns:
            A dict with ``image`` (:meth:`coco_image`), ``segments_info`` (:meth:`coco_segments`; None without a map)
            and ``instances`` (:meth:`coco_instances`).

        Raises:
            UserError: If ids of categories are unknown, or there are masks and pycocotools is not installed.
        """
        segments = None if self.id_map is None else self.coco_segments()
        return dict(image=self.coco_image(image_id), segments_info=segments, instances=self.coco_instances(image_id))

    def coco_image(self, image_id: Id) -> CocoImage:
        """Entry in ``images``: ``id``, ``file_name`` (without folder; '' for an array), ``width`` and ``height``."""
        height, width = self.image.shape[:2]
        path = urlsplit(self.path).path if self.path and '://' in self.path else self.path or ''  # without a query
        return CocoImage(id=image_id, file_name=os.path.basename(path), width=width, height=height)

    def coco_segments(self) -> list[WrittenSegment]:
        """Entries of ``segments_info`` for the map.

        Returns:
            For each segment, ``id``, ``category_id``, ``area``, ``bbox``, ``iscrowd`` and, unless they are None,
            ``score``, ``ranking_score`` and ``similarity``.

        Raises:
            UserError: If ids of categories are unknown.
        """
        ids = self._category_ids()
        entries = [
            dict(id=one.id, category_id=ids[one.label], area=one.area, bbox=list(one.bbox), iscrowd=0)
            | {name: value for name in RATINGS if (value := getattr(one, name)) is not None}
            for one in self.segments
        ]
        return cast(list[WrittenSegment], entries)  # the names of ratings are keys of WrittenSegment

    def coco_instances(self, image_id: Id) -> list[dict[str, Any]]:
        """The instances as COCO's results of detection.

        Returns:
            For each instance, ``image_id``, ``category_id``, ``score``, ``bbox`` (x, y, width and height in pixels),
            ``area`` (of the mask or, without masks, of the box), ``iscrowd`` 0 and, if there are masks,
            ``segmentation`` (compressed RLE).

        Raises:
            UserError: If ids of categories are unknown, or there are masks and pycocotools is not installed.
        """
        ids, found = self._category_ids(), []
        columns = (self.instances.bboxes, self.instances.labels, self.instances.scores)
        for (x1, y1, x2, y2), label, score in zip(*(column.tolist() for column in columns), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            entry = dict(image_id=image_id, category_id=ids[label], score=score, bbox=box)
            found.append(entry | dict(area=box[2] * box[3], iscrowd=0))
        if self.instances.masks is not None:
            for entry, mask in zip(found, self.instances.masks, strict=True):
                entry.update(area=int(mask.sum()), segmentation=run_lengths(mask))
        return found

    def to_supervision(self) -> 'supervision.Detections':
        """The segments as ``supervision.Detections``, with masks; without a map, the instances.

        ``data`` holds class names (``class_name``) and, with a map, segment ids (``segment_id``). The confidence of a
        segment without a score is NaN.

        Raises:
            UserError: If the package supervision is not installed.
        """
        try:
            from supervision import Detections
        except ModuleNotFoundError:
            raise UserError('the package supervision is not installed: pip install supervision') from None
        names = np.array([category['name'] for category in self.categories])
        if self.id_map is None:
            found = self.instances
            data = dict(class_name=names[found.labels])
            return Detections(found.bboxes, found.masks, found.scores, found.labels.astype(int), data=data)
        boxes = np.array([one.bbox for one in self.segments], np.float32).reshape(-1, 4)
        ids = np.array([one.id for one in self.segments], int)
        labels = np.array([one.label for one in self.segments], int)
        return Detections(
            xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            mask=self.id_map == ids[:, None, None],
            confidence=np.array([np.nan if one.score is None else one.score for one in self.segments], np.float32),
            class_id=labels,
            data=dict(class_name=names[labels], segment_id=ids),
        )

    def _category_ids(self) -> list[int]:
        """Ids of categories by label."""
        ids = [category['id'] for category in self.categories]
        if None in ids:
            raise UserError(
                "the model knows its classes by name only, and they are not COCO's: name a JSON of its data in the "
                "config's test_dataloader.dataset.ann_file"
            )
        return ids


def _number_text(segment: Segment, number: str | None) -> str | None:
    """A segment's number as it stands in pictures."""
    value = None if number is None else getattr(segment, number)
    if value is None:
        return None
    # Ranking scores tell an order, and most of them are far below 0.01.
    return f'{value:.2g}' if number == 'ranking_score' else f'{value:.2f}'


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask, bool of shape (H, W), as COCO's compressed RLE: ``size`` and ``counts``.

    Raises:
        UserError: If the package pycocotools is not installed.
    """
    try:
        from pycocotools import mask as coco_mask
    except ModuleNotFoundError:
        raise UserError('the package pycocotools is not installed: pip install pycocotools') from None
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(size=encoded['size'], counts=encoded['counts'].decode())
