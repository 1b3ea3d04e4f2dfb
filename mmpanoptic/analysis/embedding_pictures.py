"""Pictures of pixel embeddings: colours by their principal components, and the points that instances came from."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmpanoptic.structures import Evidence


def unit_embeddings(evidence: Evidence) -> Tensor:
    """The embedding of every pixel of the panoptic map, as fusion reads it.

    Args:
        evidence: What was found in an image whose output is of size (H, W), with an embedding map.

    Returns:
        Vectors of length 1, float32 of shape (D, H, W).
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


def principal_colors(embeddings: Tensor, outliers: float = 0.01) -> np.ndarray:
    """Colours of embeddings by their three principal components: alike where embeddings are.

    Each component is stretched to the whole range of one channel, the strongest to red's. Its sign is the one with
    which its largest coefficient is positive, so that colours do not change from run to run.

    Args:
        embeddings: Of shape (D, H, W). Components that they do not have, as with D < 3 or only one value, are grey.
        outliers: Share of the pixels at each end of a component that may leave its range.

    Returns:
        uint8 RGB of shape (H, W, 3).
    """
    pixels = embeddings.flatten(1).double()
    pixels = pixels - pixels.mean(dim=1, keepdim=True)
    values, axes = torch.linalg.eigh(pixels @ pixels.T)  # rising
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
    """Draw the boxes of instances, and the pixel that each one's query was read at.

    Args:
        picture: uint8 RGB of shape (f * H, f * W, 3).
        boxes: x1, y1, x2, y2 in pixels of (H, W), of shape (n, 4).
        points: Columns and rows in (H, W), of shape (n, 2); None: there are none to draw.
        colors: RGB of each instance.
        factor: f, how many times the picture is enlarged.

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
