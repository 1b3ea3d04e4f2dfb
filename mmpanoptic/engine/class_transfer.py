"""Starting from a checkpoint with other classes: layers that fit, and the slices of classes of the same name."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmpanoptic.utils import UserError

from .class_layers import Classes, ClassTensor, Slice, Special, class_tensors


class Transfer(NamedTuple):
    """What a model starts from.

    Attributes:
        weights: All tensors of the model by name, on the CPU.
        kept: Names of those that are the checkpoint's.
        moved: Names of those of which slices are the checkpoint's.
        left: Names of those that are as the model had them, each with the reason.
        sources: Of each class of which there are slices in ``moved`` or ``kept``, the checkpoint's class.
        random: Classes of which slices are as the model had them.
        unused: Names of tensors of the checkpoint that the model has not.
    """

    weights: dict[str, Tensor]
    kept: list[str]
    moved: list[str]
    left: dict[str, str]
    sources: dict[str, str]
    random: dict[str, None]
    unused: list[str]


class _Match(NamedTuple):
    """Slices of a tensor that come from slices of another one: positions, and of what they are."""

    here: list[int]
    there: list[int]
    classes: list[tuple[str | Special, str | Special]]
    missing: list[str | Special]


def transfer(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    ours: Classes,
    theirs: Classes | None,
    mapping: Mapping[str, str] = {},
) -> Transfer:
    """What of a checkpoint fits a model.

    A tensor of the same name and shape is taken as it is, unless its slices are of classes: then a slice is taken from
    the one of the same class, wherever that is, and stays as it is if there is none.

    Args:
        model: The model, initialised.
        weights: The checkpoint's, by name.
        ours: Classes that the model is to be trained with.
        theirs: The checkpoint's; None if it does not name any: then tensors of classes are taken if their shapes fit.
        mapping: Of classes of ours whose names are others, the checkpoint's name.

    Returns:
        All of it; nothing is changed.
    """
    found = Transfer({}, [], [], {}, {}, {}, [])
    of_classes = class_tensors(model)
    for name, own in model.state_dict().items():
        value, own = weights.get(name), own.detach().cpu()
        found.weights[name] = own
        if value is None:
            found.left[name] = 'the checkpoint has none'
            continue
        layout = of_classes.get(name) if theirs is not None else None
        match = layout and _match(layout, own, value, ours, theirs, mapping)
        if match:
            _take_slices(found, name, value, layout, match)
        elif value.shape == own.shape:
            found.weights[name] = value
            found.kept.append(name)
        else:
            found.left[name] = f'{tuple(value.shape)} in the checkpoint, {tuple(own.shape)} in the model'
    found.unused.extend(name for name in weights if name not in found.weights)
    return found


def _take_slices(found: Transfer, name: str, value: Tensor, layout: ClassTensor, match: _Match) -> None:
    """Note a tensor of classes in ``found``, whose ``weights`` have the model's."""
    found.random.update(dict.fromkeys(of for of in match.missing if not isinstance(of, Special)))
    found.sources.update((one, source) for one, source in match.classes if not isinstance(one, Special))
    if not match.here:
        found.left[name] = 'no class of the same name'
        return
    own = found.weights[name]
    moved = own.clone()
    here, there = (
        torch.meshgrid([torch.tensor(places)] * len(layout.dims), indexing='ij') for places in match[:2]
    )  # the dimensions of classes are the first ones
    moved[here] = value.cpu()[there].to(own.dtype)
    found.weights[name] = moved
    same = value.shape == own.shape and torch.equal(moved, value.cpu().to(own.dtype))
    (found.kept if same else found.moved).append(name)


def _slices(layout: ClassTensor, tensor: Tensor, classes: Classes) -> list[Slice] | None:
    """What the slices of a tensor are of, or None if it is laid out in no known way."""
    if tensor.dim() <= layout.dims[-1] or len({tensor.size(dim) for dim in layout.dims}) > 1:
        return None
    choices = (one(classes) for one in layout.layouts)
    return next((slices for slices in choices if len(slices) == tensor.size(0)), None)


def _match(
    layout: ClassTensor, own: Tensor, value: Tensor, ours: Classes, theirs: Classes, mapping: Mapping[str, str]
) -> _Match | None:
    """Slices of the same classes, or None if the tensors cannot be compared so."""
    here, there = _slices(layout, own, ours), _slices(layout, value, theirs)
    first = len(layout.dims)
    if here is None or there is None or own.shape[first:] != value.shape[first:]:
        return None
    place_of = {one: place for place, one in enumerate(there)}
    match = _Match([], [], [], [])
    for place, one in enumerate(here):
        source = one._replace(of=mapping.get(one.of, one.of))
        if source in place_of:
            match.here.append(place)
            match.there.append(place_of[source])
            match.classes.append((one.of, source.of))
        else:
            match.missing.append(one.of)
    return match


def split_classes(names: tuple[str, ...], model: nn.Module, weights: Mapping[str, Tensor]) -> Classes:
    """Classes of a checkpoint that names them without telling things from stuff, as files of mmdet 2.x do.

    As many of the first are things as fit most of its tensors.
    """
    of_classes = [(layout, weights[name]) for name, layout in class_tensors(model).items() if name in weights]
    splits = [Classes(names[:number], names[number:]) for number in range(len(names), -1, -1)]
    return max(splits, key=lambda split: sum(_slices(one, value, split) is not None for one, value in of_classes))


def check_mapping(mapping: Mapping[str, str], ours: Classes, theirs: Classes, path: str) -> None:
    """Refuse a mapping with names that nobody has.

    Args:
        mapping: See :func:`transfer`.
        ours: Names of its keys.
        theirs: Names of its values.
        path: Name of the checkpoint, for errors.

    Raises:
        UserError: Naming the first one and what it may be meant for.
    """
    for own, source in mapping.items():
        for name, classes, where in ((own, ours, 'the dataset to train on'), (source, theirs, path)):
            names = [*classes.things, *classes.stuff]
            if name not in names:
                close = get_close_matches(str(name), names, n=1)
                hint = f'did you mean {close[0]!r}?' if close else f'it has {", ".join(names[:8])}, ...'
                raise UserError(
                    f'mapping {own!r}: {source!r} must be class of the dataset: class of the checkpoint, but {where} '
                    f'has no class {name!r}: {hint}'
                )


def report(found: Transfer, path: str) -> str:
    """What was kept, moved and left, in some lines."""
    reasons: dict[str, list[str]] = {}
    for name, reason in found.left.items():
        if not name.endswith('num_batches_tracked'):
            reasons.setdefault(reason, []).append(name)
    classes = [one if one == source else f'{one} <- {source}' for one, source in found.sources.items()]
    parts = [
        ('moved class by class', _layers(found.moved)),
        ('classes with a source', ', '.join(classes)),
        ('classes at random', ', '.join(found.random)),
        *((f'left as initialised ({reason})', _layers(names)) for reason, names in reasons.items()),
        ('not in the model', _layers(found.unused)),
    ]
    lines = [f'{path}: {len(found.kept)} of {len(found.weights)} tensors are kept as they are']
    return '\n'.join(lines + [f'  {what}: {names}' for what, names in parts if names])


def _layers(names: list[str]) -> str:
    """The layers of tensors, the first ten by name."""
    layers = list(dict.fromkeys(name.rpartition('.')[0] or name for name in names))
    return ', '.join(layers[:10]) + (f' and {len(layers) - 10} more' if len(layers) > 10 else '')
