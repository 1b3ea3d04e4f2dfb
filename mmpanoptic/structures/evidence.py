"""Evidence: what a detector has found in one image, before it becomes a panoptic map."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.utils import require_choice

CHANNELS = ('stuff', 'stuff+other', 'all')


@dataclass(frozen=True, eq=False)
class StuffLogits:
    """Semantic logits, of which fusion uses those of stuff.

    Attributes:
        logits: Of shape (C, H, W), at the size of the panoptic map to make.
        channels: Meaning of the C channels. 'stuff': the S stuff classes. 'stuff+other': the S stuff classes, then
            'other', all things merged, which becomes void. 'all': T thing classes, then S stuff classes.

    Raises:
        ValueError: If ``channels`` is none of the three, or ``logits`` is not of three dimensions.
    """

    logits: Tensor
    channels: str

    def __post_init__(self) -> None:
        require_choice('channels', self.channels, CHANNELS)
        if self.logits.ndim != 3:
            raise ValueError(f'semantic logits must be of shape (C, H, W), not {tuple(self.logits.shape)}')

    @property
    def device(self) -> torch.device:
        """Device of the logits."""
        return self.logits.device

    def of_stuff(self, num_things: int, num_stuff: int) -> Tensor:
        """Channels among which a pixel's stuff class is decided.

        Args:
            num_things: Number of thing classes T.
            num_stuff: Number of stuff classes S.

        Returns:
            View of shape (S, H, W) or, with 'other' as the last channel, (S + 1, H, W).

        Raises:
            ValueError: If there are more or fewer channels than ``channels`` says.
        """
        wanted = {'stuff': num_stuff, 'stuff+other': num_stuff + 1, 'all': num_things + num_stuff}[self.channels]
        if len(self.logits) != wanted:
            raise ValueError(
                f'semantic logits have {len(self.logits)} channels: with {num_things} thing and {num_stuff} stuff '
                f'classes, {self.channels!r} means {wanted}'
            )
        return self.logits[num_things:] if self.channels == 'all' else self.logits


@dataclass(frozen=True, eq=False)
class StuffLabels:
    """The stuff class of each pixel.

    Attributes:
        labels: Integers of shape (H, W), at the size of the panoptic map to make: 0 to S - 1 for the stuff classes, S
            for none of them.
        logits: Logits of stuff and then of 'other', of shape (S + 1, h, w). The label of a pixel is the best channel of
            the nearest pixel here. None if unknown. Fusion computes only confidences from them.

    Raises:
        ValueError: If ``labels`` are not integers of two dimensions.
    """

    labels: Tensor
    logits: Tensor | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.is_floating_point():
            raise ValueError(
                f'labels of stuff must be integers of shape (H, W), not {self.labels.dtype} of shape '
                f'{tuple(self.labels.shape)}'
            )

    @property
    def device(self) -> torch.device:
        """Device of the labels."""
        return self.labels.device


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """An embedding of every pixel, and the queries of stuff that it is compared with.

    Attributes:
        embedding: Raw map, not normalised, of shape (D, h, w). Pixel (x, y) of the output reads it bilinearly at
            ((x + .5) * scale_x / stride - .5, (y + .5) * scale_y / stride - .5), clamped to the map, with
            :attr:`Evidence.scale`.
        stuff_queries: Embeddings of the stuff classes, of length 1, of shape (S, D).
        stride: Pixels of the network's input per pixel of the map.
        semantic: Logits of a separate branch, stuff classes and then 'thing', of shape (S + 1, h, w). If given, they
            decide about stuff instead of ``stuff_queries``.

    Raises:
        ValueError: If ``stuff_queries`` differ from ``embedding`` in dimensions, or ``semantic`` in size.
    """

    embedding: Tensor
    stuff_queries: Tensor
    stride: int = 4
    semantic: Tensor | None = None

    def __post_init__(self) -> None:
        dims, *grid = self.embedding.shape
        if self.stuff_queries.shape[1:] != (dims,):
            raise ValueError(f'stuff queries of shape {tuple(self.stuff_queries.shape)} for {dims} dimensions')
        if self.semantic is not None and list(self.semantic.shape[1:]) != grid:
            raise ValueError(
                f'semantic logits of shape {tuple(self.semantic.shape)} for an embedding map of size {grid}'
            )

    @property
    def device(self) -> torch.device:
        """Device of the embedding map."""
        return self.embedding.device


Stuff = StuffLogits | StuffLabels | EmbeddingMap
StuffKind = TypeVar('StuffKind', bound=Stuff, covariant=True)


@dataclass(frozen=True, eq=False)
class Evidence(Generic[StuffKind]):
    """What a detector has found in one image. Fusion makes the panoptic map from this alone.

    As a type, ``Evidence[EmbeddingMap]`` is evidence whose stuff is an :class:`EmbeddingMap`.

    Attributes:
        instances: N instances, N may be 0: ``bboxes`` (N, 4) in pixels of the output, ``labels`` and ``scores`` (N,),
            and either ``masks`` (N, H, W), bool or uint8, or ``embeddings`` (N, D), their queries of length 1.
        stuff: What is known about stuff.
        input_size: Height and width of the image as the network saw it, without padding, in pixels.
        output_size: Height and width of the panoptic map to make, in pixels.

    Raises:
        TypeError: If ``stuff`` is none of the three types, such as a plain tensor.
    """

    instances: InstanceData
    stuff: StuffKind
    input_size: tuple[int, int]
    output_size: tuple[int, int]

    def __post_init__(self) -> None:
        if not isinstance(self.stuff, Stuff):
            raise TypeError(
                f'stuff is a {type(self.stuff).__name__}: the semantic head has to give StuffLogits, StuffLabels or an '
                'EmbeddingMap (mmpanoptic.structures)'
            )

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the network's input per pixel of the output, across and down."""
        (rows, columns), (height, width) = self.input_size, self.output_size
        return columns / width, rows / height

    @property
    def device(self) -> torch.device:
        """Device of ``stuff``, which is also the device of the panoptic map."""
        return self.stuff.device
