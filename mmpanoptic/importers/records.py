"""What every reader gives: labels of images in one neutral form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LeftOut:
    """Something of the source that is not in the result.

    Attributes:
        file: The file that holds it.
        what: The image, shape or class, by its id or place.
        reason: Why, and what would bring it in.
    """

    file: str
    what: str
    reason: str


@dataclass(frozen=True)
class Shape:
    """A labelled area of an image.

    Attributes:
        label: Name of its class; None: its pixels are void.
        mask: A list of polygons [x1, y1, x2, y2, ...] in pixels, filled together, or COCO's run-length encoding.
        what: What to call it in a report, such as 'shape 3'.
        is_crowd: Whether it is a group of instances.
        z: Its height, where the format has one: what is higher covers what is lower.
        group: Shapes of one label and group of an image are one instance; None: it is one by itself.
        left_out: Why it is no mask of its class; its pixels are then void, or those of what lies on top of it.
        order: Which of its kind it is drawn by: maps of whole images lie below everything else (-1).
    """

    label: str | None
    mask: list[list[float]] | dict[str, Any]
    what: str
    is_crowd: bool = False
    z: int | None = None
    group: str | None = None
    left_out: str | None = None
    order: int = 0


#: Gives the shapes of an image, and what of it was left out, once its height and width are known.
Loader = Callable[[tuple[int, int]], tuple[list[Shape], list[LeftOut]]]


@dataclass(frozen=True)
class LabelledImage:
    """An image and its labels.

    Attributes:
        path: The image file.
        name: Its name in the result, with folders: 'a/b.jpg'.
        file: The file that its labels come from, for errors.
        shapes: Its shapes in the order of the file.
        load: Reads the shapes once the size of the image is known, where that is needed; ``shapes`` is then empty.
        size: Height and width that the labels were made for; None if the format does not say.
        split: The format's own split, or None.
        image_id: The format's own id, or None.
        left_out: What of it is not in ``shapes``.
    """

    path: Path
    name: str
    file: str
    shapes: Sequence[Shape] = ()
    load: Loader | None = None
    size: tuple[int, int] | None = None
    split: str | None = None
    image_id: int | str | None = None
    left_out: Sequence[LeftOut] = ()


@dataclass(frozen=True)
class Labels:
    """All that a reader has found.

    Attributes:
        images: The images, in the order of their names or of the file.
        classes: Classes in the order of the format: ``name`` and, where the format has them, ``id``, ``isthing``,
            ``supercategory`` and ``color``.
        left_out: What is in no image of ``images``.
    """

    images: list[LabelledImage]
    classes: list[dict[str, Any]]
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """A format that can be imported.

    Attributes:
        read: Reads a source, the folder of its images (None: found beside the labels) and returns its labels.
        order: Which of two shapes lies on top: 'z', 'area' or 'file', see :mod:`.layers`.
        says: What the source is, for help and errors.
        takes_classes: Whether the reader needs the classes that a user lists, as third argument, and the names of those
            that are stuff, as fourth.
    """

    read: Callable[..., Labels]
    order: str
    says: str
    takes_classes: bool = False
