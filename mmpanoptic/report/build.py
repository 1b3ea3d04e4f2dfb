"""Build the page of a report from scores of files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.formats.file_sources import read_json_of
from mmpanoptic.utils import DatasetError
from mmpanoptic.utils.paths import safe_name

from .contents import contents_of, rows_by_image
from .page import render_page
from .pictures import choose_images, pictures_of


def build_report(
    result: Mapping[str, Any],
    ground_truth: tuple[str | Path, str | Path],
    predictions: Sequence[tuple[str | Path, str | Path]],
    names: Sequence[str],
    images: str | Path,
    pictures: int = 60,
    inside: bool = True,
) -> str:
    """Build the page of a report.

    Args:
        result: Scores from :func:`~mmpanoptic.evaluation.file_scores.score_files` with ``segments=True``.
        ground_truth: JSON and folder (or zip) of the ground truth.
        predictions: JSON and folder of one or two sets of predictions, in the order of ``result``.
        names: Names of the sets.
        images: Folder of the images.
        pictures: Number of images to show; all images are listed.
        inside: Whether all images must be in ``images``. This keeps a JSON from another source from copying other files
            of this machine into a page that is given away.

    Raises:
        UserError: If plotly is not installed, or an image is missing, outside of ``images``, or not of the size of its
            map.
    """
    gt_data = read_json_of(ground_truth[0])
    for image in gt_data['images'] if inside else ():
        if safe_name(image['file_name']) is None:
            raise DatasetError(
                f'{ground_truth[0]}: image {image["file_name"]!r} leads out of {images}: rename it there'
            )
    rows = rows_by_image(result)
    contents = contents_of(result, rows, gt_data, str(ground_truth[0]), names)
    chosen = choose_images(contents['images'], pictures)
    for picture, (place, reasons) in enumerate(chosen.items()):
        contents['images'][place] |= dict(picture=picture, reasons=reasons)
    ids = [contents['images'][place]['id'] for place in chosen]
    return render_page(contents, pictures_of(ids, gt_data, ground_truth[1], predictions, rows, images))
