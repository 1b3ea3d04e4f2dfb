"""Starting from a checkpoint with other classes: takes layers that fit, and slices of classes of the same name."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmpanoptic.utils import UserError

from .class_layers import Classes, ClassTensor, Slice, Special, class_tensors


class Transfer(NamedTuple):
    """The weights that a model starts from.

    Attributes:
        weights: All tensors of the model by name, on the CPU.
        kept: Names of tensors that are the checkpoint's.
        moved: Names of tensors with slices from the checkpoint.
        left: Names of tensors that are the model's initial ones, each with the reason.
        sources: The checkpoint's class for each class with slices in ``moved`` or ``kept``.
        random: Classes with slices that are the model's initial ones; used as an ordered set.
        unused: Names of tensors of the checkpoint that the model lacks.
    """

    weights: dict[str, Tensor]
    kept: list[str]
    moved: list[str]
    left: dict[str, str]
    sources: dict[str, str]
    random: dict[str, None]
    unused: list[str]


class _Match(NamedTuple):
    """Slices of a tensor that are taken from slices of the checkpoint's: positions, and the classes on both sides."""

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
    """Find the weights of a checkpoint that fit a model.

    A tensor of the same name and shape is taken unchanged, unless it has slices of classes. Then each slice is taken
    from the slice of the same class, at any position; it keeps its initial value if the checkpoint lacks the class.

    Args:
        model: The model, initialised.
        weights: The checkpoint's weights by name.
        ours: Classes that the model will be trained with.
        theirs: The checkpoint's classes. None if they are not known; then tensors are taken if their shapes fit.
        mapping: The checkpoint's names for classes of ours that have other names there.

    Returns:
        The result; neither model nor weights are changed.
    """
    found = Transfer({}, [], [], {}, {}, {}, [])
    of_classes = class_tensors(model)
    for name, initial in model.state_dict().items():
        value, initial = weights.get(name), initial.detach().cpu()
        found.weights[name] = initial
        if value is None:
            found.left[name] = 'the checkpoint has none'
            continue
        layout = of_classes.get(name)
        match = _match(layout, initial, value, ours, theirs, mapping) if layout and theirs is not None else None
        if layout and match:
            _take_slices(found, name, value, layout, match)
        elif value.shape == initial.shape:
            found.weights[name] = value
            found.kept.append(name)
        else:
            found.left[name] = f'{tuple(value.shape)} in the checkpoint, {tuple(initial.shape)} in the model'
    found.unused.extend(name for name in weights if name not in found.weights)
    return found


def _take_slices(found: Transfer, name: str, value: Tensor, layout: ClassTensor, match: _Match) -> None:
    """Put the checkpoint's slices into a tensor in ``found.weights``, and note in ``found`` what was taken."""
    found.random.update(dict.fromkeys(of for of in match.missing if not isinstance(of, Special)))
    found.sources.update(
        (of, source) for of, source in match.classes if not isinstance(of, Special) and not isinstance(source, Special)
    )
    if not match.here:
        found.left[name] = 'no class of the same name'
        return
    initial = found.weights[name]
    moved = initial.clone()
    here, there = (
        torch.meshgrid([torch.tensor(places)] * len(layout.dims), indexing='ij') for places in match[:2]
    )  # dimensions with classes come first
    moved[here] = value.cpu()[there].to(initial.dtype)
    found.weights[name] = moved
    same = value.shape == initial.shape and torch.equal(moved, value.cpu().to(initial.dtype))
    (found.kept if same else found.moved).append(name)


def _slices(layout: ClassTensor, tensor: Tensor, classes: Classes) -> list[Slice] | None:
    """The slices of a tensor, or None if it has no known layout."""
    if tensor.dim() <= layout.dims[-1] or len({tensor.size(dim) for dim in layout.dims}) > 1:
        return None
    choices = (layout_of(classes) for layout_of in layout.layouts)
    return next((slices for slices in choices if len(slices) == tensor.size(0)), None)


def _match(
    layout: ClassTensor, tensor: Tensor, value: Tensor, ours: Classes, theirs: Classes, mapping: Mapping[str, str]
) -> _Match | None:
    """Match slices of the same classes; None if the tensors have other dimensions or unknown layouts."""
    here, there = _slices(layout, tensor, ours), _slices(layout, value, theirs)
    first = len(layout.dims)
    if here is None or there is None or tensor.shape[first:] != value.shape[first:]:
        return None
    place_of = {offered: place for place, offered in enumerate(there)}
    match = _Match([], [], [], [])
    for place, wanted in enumerate(here):
        source = wanted
        if isinstance(wanted.of, str):
            source = wanted._replace(of=mapping.get(wanted.of, wanted.of))
        if source in place_of:
            match.here.append(place)
            match.there.append(place_of[source])
            match.classes.append((wanted.of, source.of))
        else:
            match.missing.append(wanted.of)
    return match


def split_classes(names: tuple[str, ...], model: nn.Module, weights: Mapping[str, Tensor]) -> Classes:
    """Split the classes of a checkpoint that does not tell things from stuff, such as a file of mmdet 2.x.

    The first names are thing classes; their number is the one that fits most of the checkpoint's tensors.
    """
    of_classes = [(layout, weights[name]) for name, layout in class_tensors(model).items() if name in weights]
    splits = [Classes(names[:number], names[number:]) for number in range(len(names), -1, -1)]
    return max(
        splits,
        key=lambda split: sum(_slices(tensor_layout, value, split) is not None for tensor_layout, value in of_classes),
    )


def check_mapping(mapping: Mapping[str, str], ours: Classes, theirs: Classes, path: str) -> None:
    """Refuse a mapping with unknown names.

    Args:
        mapping: See :func:`transfer`.
        ours: Classes that its keys name.
        theirs: Classes that its values name.
        path: Name of the checkpoint, for errors.

    Raises:
        UserError: Naming the first unknown name, and a similar one.
    """
    for wanted, source in mapping.items():
        for name, classes, where in ((wanted, ours, 'the dataset to train on'), (source, theirs, path)):
            names = [*classes.things, *classes.stuff]
            if name not in names:
                close = get_close_matches(str(name), names, n=1)
                hint = f'did you mean {close[0]!r}?' if close else f'it has {", ".join(names[:8])}, ...'
                raise UserError(
                    f'mapping {wanted!r}: {source!r} must be class of the dataset: class of the checkpoint, but '
                    f'{where} has no class {name!r}: {hint}'
                )


def report(found: Transfer, path: str) -> str:
    """A text of some lines on the tensors that were kept, moved and left."""
    reasons: dict[str, list[str]] = {}
    for name, reason in found.left.items():
        if not name.endswith('num_batches_tracked'):
            reasons.setdefault(reason, []).append(name)
    classes = [name if name == source else f'{name} <- {source}' for name, source in found.sources.items()]
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
    """The first ten names of the layers that the tensors belong to."""
    layers = list(dict.fromkeys(name.rpartition('.')[0] or name for name in names))
    return ', '.join(layers[:10]) + (f' and {len(layers) - 10} more' if len(layers) > 10 else '')
