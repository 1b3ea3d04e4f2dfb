"""Pictures of pixel embeddings: colours by principal components, and the points at which queries were read."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmpanoptic.results import Segment
from mmpanoptic.structures import Evidence


def unit_embeddings(evidence: Evidence) -> Tensor:
    """The embedding of every pixel of the panoptic map, as fusion reads it.

    Args:
        evidence: Evidence with an embedding map, for an output of size (H, W).

    Returns:
        Embeddings of length 1, float32 of shape (D, H, W).
    """
    maps = evidence.stuff
    axes = [
        (torch.arange(size, device=maps.device, dtype=torch.float64) + 0.5) * scale / (maps.stride * centres) * 2 - 1
        for size, scale, centres in zip(
            evidence.output_size, evidence.scale[::-1], maps.embedding.shape[1:], strict=True
        )
    ]
    rows, columns = torch.meshgrid(*axes, indexing='ij')
    grid = torch.stack([columns, rows], dim=-1)[None].float()
    large = F.grid_sample(maps.embedding[None].float(), grid, padding_mode='border', align_corners=False)
    return F.normalize(large[0], dim=0)


def query_of(segment: Segment, evidence: Evidence, num_things: int) -> Tensor | None:
    """The query of a segment, of length 1 and shape (D,); None if a semantic branch decides about its class.

    Args:
        segment: A segment of the map that was fused from ``evidence``.
        evidence: Evidence with an embedding map, and instances with ``embeddings``.
        num_things: Number of thing classes, whose labels come first.
    """
    maps = evidence.stuff
    if segment.isthing:
        return evidence.instances.embeddings[segment.instance]
    if maps.semantic is not None:
        return None
    return maps.stuff_queries[segment.label - num_things]


def principal_colors(embeddings: Tensor, outliers: float = 0.01) -> np.ndarray:
    """Colours of embeddings by their three principal components; similar embeddings have similar colours.

    Each component is stretched to the whole range of one channel, red for the strongest one. Its sign makes its largest
    coefficient positive, so that colours do not change from run to run.

    Args:
        embeddings: Embeddings of shape (D, H, W). The channel of a component without variance (D < 3, or equal
            embeddings) is grey.
        outliers: Share of the pixels at each end of a component that are clipped.

    Returns:
        uint8 RGB of shape (H, W, 3).
    """
    pixels = embeddings.flatten(1).double()
    pixels = pixels - pixels.mean(dim=1, keepdim=True)
    values, axes = torch.linalg.eigh(pixels @ pixels.T)  # ascending
    kept = values.flip(0)[:3] > 1e-12 * max(pixels.size(1), 1)
    axes = axes.flip(1)[:, :3][:, kept]
    signs = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    colors = np.full((3, pixels.size(1)), 0.5)
    for channel, component in enumerate(((axes * signs).T @ pixels).cpu().numpy()):
        low, high = np.quantile(component, (outliers, 1 - outliers))
        colors[channel] = (component - low) / max(high - low, 1e-12)
    return np.rint(255 * colors.clip(0, 1)).astype(np.uint8).T.reshape(*embeddings.shape[1:], 3)


def draw_points(
    picture: np.ndarray, boxes: np.ndarray, points: np.ndarray | None, colors: Sequence[Sequence[int]], factor: int = 1
) -> np.ndarray:
    """Draw the boxes of instances and the pixels at which their queries were read.

    Args:
        picture: The enlarged image, uint8 RGB of shape (f * H, f * W, 3).
        boxes: Boxes (x1, y1, x2, y2) in pixels of the image before it was enlarged, of shape (n, 4).
        points: Columns and rows of these pixels in that image, of shape (n, 2); None: draw no points.
        colors: RGB of each instance.
        factor: Factor f by which the picture is enlarged.

    Returns:
        A new picture.
    """
    picture = picture.copy()
    width = max(1, round(min(picture.shape[:2]) / 200))
    for box, color in zip(np.rint(boxes * factor).astype(int), colors, strict=True):
        cv2.rectangle(picture, box[:2].tolist(), (box[2:] - 1).tolist(), [int(c) for c in color], width)
    if points is not None:  # above all boxes
        for point, color in zip(np.rint((points + 0.5) * factor).astype(int), colors, strict=True):
            cv2.circle(picture, point.tolist(), 2 * width + 3, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(picture, point.tolist(), 2 * width + 1, [int(c) for c in color], -1, cv2.LINE_AA)
    return picture
