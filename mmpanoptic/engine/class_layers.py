"""Tensors of a model that have a slice for each class, and the class of each slice."""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

from mmdet.models.dense_heads import FCOSHead, RetinaHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.seg_heads import PanopticFPNHead
from torch import nn

from mmpanoptic.models.fusion import SpatialRankingModule
from mmpanoptic.models.seg_heads import CIAEHead, OANetStuffHead, SpatialFlowStuffHead


class Classes(NamedTuple):
    """Names of classes in the order of their labels."""

    things: tuple[str, ...]
    stuff: tuple[str, ...] = ()


class Special(Enum):
    """Kinds of slices that belong to no single class."""

    BACKGROUND = 'background'
    ANY = 'any thing'  # also 'other', all things as one class beside the stuff classes


class Slice(NamedTuple):
    """What a slice of a tensor belongs to.

    Attributes:
        of: Name of a class, or a special kind.
        part: Index among the slices of this class, such as the index of an anchor or of a side of a box.
    """

    of: str | Special
    part: int = 0


#: Gives the slices along one dimension for the classes.
Layout = Callable[[Classes], list[Slice]]


class ClassTensor(NamedTuple):
    """A tensor with slices of classes.

    Attributes:
        layouts: Possible layouts, the most likely first; the first one whose number of slices fits the tensor applies.
        dims: Dimensions that have slices of classes.
    """

    layouts: tuple[Layout, ...]
    dims: tuple[int, ...] = (0,)


def things(classes: Classes) -> list[Slice]:
    """One slice for each thing class."""
    return [Slice(name) for name in classes.things]


def stuff(classes: Classes) -> list[Slice]:
    """One slice for each stuff class."""
    return [Slice(name) for name in classes.stuff]


def any_thing(classes: Classes) -> list[Slice]:
    """One slice for all things."""
    return [Slice(Special.ANY)]


def things_background(classes: Classes) -> list[Slice]:
    """Thing classes, then the background."""
    return [*things(classes), Slice(Special.BACKGROUND)]


def any_background(classes: Classes) -> list[Slice]:
    """All things as one class, then the background."""
    return [Slice(Special.ANY), Slice(Special.BACKGROUND)]


def all_classes(classes: Classes) -> list[Slice]:
    """Thing classes, then stuff classes."""
    return things(classes) + stuff(classes)


def stuff_other(classes: Classes) -> list[Slice]:
    """Stuff classes, then all things as one class."""
    return stuff(classes) + any_thing(classes)


def stuff_things(classes: Classes) -> list[Slice]:
    """Stuff classes, then thing classes."""
    return stuff(classes) + things(classes)


def by_class(layout: Layout, parts: int) -> Layout:
    """All parts of a class, then those of the next class."""
    return lambda classes: [Slice(of_class.of, part) for of_class in layout(classes) for part in range(parts)]


def by_part(layout: Layout, parts: int) -> Layout:
    """A slice for each class, then those of the next part."""
    return lambda classes: [Slice(of_class.of, part) for part in range(parts) for of_class in layout(classes)]


def class_tensors(model: nn.Module) -> dict[str, ClassTensor]:
    """The tensors of a model, by name, that have slices of classes.

    Supported are box and mask heads of two-stage models, the heads of RetinaNet and FCOS and their subclasses, the
    semantic heads of this project, CIAE's memory (its rows are the stuff queries), and OANet's ranking module.
    """
    found = {}
    for path, module in model.named_modules():
        for name, tensor in _tensors_of(module):
            found[f'{path}.{name}' if path else name] = tensor
    return found


def _tensors_of(module: nn.Module) -> Iterator[tuple[str, ClassTensor]]:
    if isinstance(module, BBoxHead):
        yield from _layer('fc_cls', things_background, any_background)
        layouts = (any_thing, things) if module.reg_class_agnostic else (things, any_thing)
        yield from _layer('fc_reg', *(by_class(layout, module.bbox_coder.encode_size) for layout in layouts))
    elif isinstance(module, FCNMaskHead):
        yield from _layer('conv_logits', *((any_thing, things) if module.class_agnostic else (things, any_thing)))
    elif isinstance(module, RetinaHead):
        softmax = module.cls_out_channels > module.num_classes
        layouts = (things_background, any_background) if softmax else (things, any_thing)
        yield from _layer('retina_cls', *(by_part(layout, module.num_base_priors) for layout in layouts))
    elif isinstance(module, FCOSHead):
        yield from _layer('conv_cls', things, any_thing)
    elif isinstance(module, PanopticFPNHead):
        yield from _layer('conv_logits', *_likely_first(stuff_other, all_classes, stuff))
    elif isinstance(module, SpatialFlowStuffHead):
        likely = stuff_other if module.merge_things else all_classes
        yield from _layer('conv_logits', *_likely_first(likely, stuff_other, all_classes, stuff))
    elif isinstance(module, OANetStuffHead):
        likely = all_classes if module.num_classes > module.num_stuff_classes else stuff
        yield from _layer('conv_logits', *_likely_first(likely, stuff_other, all_classes, stuff))
    elif isinstance(module, CIAEHead):
        yield from _layer('conv_logits', stuff_other)
        likely = dict(merge=stuff_other, spec=stuff_things, none=stuff)[module.thing_categories]
        yield 'memory.embeddings', ClassTensor(_likely_first(likely, stuff_other, stuff_things, stuff))
    elif isinstance(module, SpatialRankingModule):
        for name, parameter in module.named_parameters():
            yield name, ClassTensor((things,), (0, 1) if parameter.dim() > 1 else (0,))


def _likely_first(likely: Layout, *others: Layout) -> tuple[Layout, ...]:
    return tuple(dict.fromkeys((likely, *others)))


def _layer(name: str, *layouts: Layout) -> Iterator[tuple[str, ClassTensor]]:
    for part in ('weight', 'bias'):
        yield f'{name}.{part}', ClassTensor(layouts)
