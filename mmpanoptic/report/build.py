"""From scores of files to the page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.formats.file_sources import read_json_of

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
) -> str:
    """Make the page.

    Args:
        result: Of :func:`~mmpanoptic.evaluation.file_scores.score_files` with ``segments=True``.
        ground_truth: JSON and folder (or zip) that were scored against.
        predictions: JSON and folder of one or two sets, in the order of ``result``.
        names: What to call them.
        images: Folder of the images.
        pictures: How many images to show; all are listed.

    Raises:
        UserError: If plotly is not installed, or an image is missing or of another size than its map.
    """
    gt_data = read_json_of(ground_truth[0])
    contents = contents_of(result, gt_data, str(ground_truth[0]), names)
    chosen = choose_images(contents['images'], pictures)
    for picture, (place, reasons) in enumerate(chosen.items()):
        contents['images'][place] |= dict(picture=picture, reasons=reasons)
    results = [result, *([result['against']] if 'against' in result else [])]
    rows = [rows_by_image(one['segments']) for one in results]
    ids = [contents['images'][place]['id'] for place in chosen]
    return render_page(contents, pictures_of(ids, gt_data, ground_truth[1], predictions, rows, images))
