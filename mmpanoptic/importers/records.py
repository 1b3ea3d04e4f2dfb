"""The result of every reader: labels of images in one neutral form."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LeftOut:
    """A part of the source that is not in the result.

    Attributes:
        file: The file that holds it.
        what: The image, shape or class, by its id or index.
        reason: Why it was left out, and what would include it.
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
        z: Its level, if the format has levels: shapes with a greater z cover those with a smaller z.
        group: Shapes of an image with the same label and group are one instance; None: the shape is one instance.
        left_out: Why the mask is not used as one of its class; its pixels are then void unless other shapes cover them.
        order: Shapes with a smaller order are drawn first; maps of whole images have -1, other shapes 0.
    """

    label: str | None
    mask: list[list[float]] | Mapping[str, Any]
    what: str
    is_crowd: bool = False
    z: int | None = None
    group: str | None = None
    left_out: str | None = None
    order: int = 0


def parted(found: Iterable[Shape | LeftOut]) -> tuple[list[Shape], list[LeftOut]]:
    """Separate shapes from what was left out."""
    shapes: list[Shape] = []
    left_out: list[LeftOut] = []
    for shape in found:
        if isinstance(shape, LeftOut):
            left_out.append(shape)
        else:
            shapes.append(shape)
    return shapes, left_out


#: Takes the height and width of an image, and gives its shapes and what was left out of them.
Loader = Callable[[tuple[int, int]], tuple[list[Shape], list[LeftOut]]]


@dataclass(frozen=True)
class LabelledImage:
    """An image and its labels.

    Attributes:
        path: The image file.
        name: Its name in the result, with folders: 'a/b.jpg'.
        file: The file that its labels come from, for errors.
        shapes: Its shapes in the order of the file.
        load: Reads the shapes, if the image's size is needed for that; ``shapes`` is then empty.
        size: Height and width that the labels were made for; None if the format does not say.
        split: The split in the format, or None.
        image_id: The id in the format, or None.
        left_out: Parts of its labels that are not in ``shapes``.
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
    """The labels of a source.

    Attributes:
        images: The images, in the order of their names or of the file.
        classes: Classes in the order of the format: ``name`` and, where the format has them, ``id``, ``isthing``,
            ``supercategory`` and ``color``.
        left_out: What is not in ``images``.
    """

    images: list[LabelledImage]
    classes: list[dict[str, Any]]
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """A format that can be imported.

    Attributes:
        read: Takes a source and the folder of its images (None: found beside the labels), and returns the labels.
        order: Which of two shapes lies on top: 'z', 'area' or 'file', see :mod:`.layers`.
        says: Description of the source, for help and errors.
        takes_classes: Whether the reader takes the user's list of classes as third argument, and the names of stuff
            classes as fourth.
    """

    read: Callable[..., Labels]
    order: str
    says: str
    takes_classes: bool = False
