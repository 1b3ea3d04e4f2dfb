"""Fuse the same instances in up to five orders and compare their PQ.

python tools/analysis_tools/fusion_orders.py CONFIG CHECKPOINT [--seed 0] [--classes tie ball box] [--overlaps]
    [--out FILE.json]

The orders are:

- detection score;
- random;
- fixed by class: the order of classes that the fewest overlapping pairs of the training set contradict (above 15
  classes, a local optimum); by score for classes that never overlap there;
- learned ranking, if the fusion head has one;
- true order, from the overlapping masks and the panoptic map of the ground truth.

--overlaps shows where an order is wrong: of the pixels in two instances that belong to one of them, it counts those
that the order gives to this instance, by the classes of both.

Every image goes through the network once. The datasets of the config need inst_ann_file.
"""

import argparse
import json
import os.path as osp
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from mmpanoptic.analysis.ground_truth import annotated_dataset, things_of
from mmpanoptic.analysis.instance_orders import (
    MATCH_IOU,
    best_class_order,
    best_match,
    class_votes,
    class_wins,
    front_votes,
    order_by_votes,
    shown_by_class,
    true_votes,
)
from mmpanoptic.apis import load_model
from mmpanoptic.datasets.wrappers import inner_datasets
from mmpanoptic.engine import cli
from mmpanoptic.engine.components import build_dataset, dataset_config
from mmpanoptic.engine.configs import load_config
from mmpanoptic.evaluation.panoptic_quality import accumulate, average, match_segments, per_class
from mmpanoptic.models import HeuristicFusion, RankingFusion
from mmpanoptic.models.fusion.paste.instances import order_instances
from mmpanoptic.structures import Evidence
from mmpanoptic.utils import UserError, require_file, require_folder, write_whole

MOST_KINDS = 5  # pairs of classes in the table of overlaps


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='PQ of different orders of instances')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--seed', type=int, default=0, help='seed of the random order (default: 0)')
    parser.add_argument(
        '--classes', nargs='+', metavar='NAME', help='things to list (default: five with the largest gains)'
    )
    parser.add_argument('--images', type=int, help='number of images of the test set (default: all)')
    parser.add_argument(
        '--train-images', type=int, default=1000, help='images for the order of classes (default: 1000)'
    )
    parser.add_argument('--overlaps', action='store_true', help='show which overlaps each order has right')
    parser.add_argument('--out', metavar='FILE.json', help='write the scores of each order, as a test logs them')
    parser.add_argument('--label', default='', metavar='TEXT', help='prefix of the names of orders in --out')
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: the GPU if there is one, else cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    return parser.parse_args()


def require_instances(config: Config, loader: str) -> None:
    """Refuse a dataset, given by the name of its dataloader, without a true order of instances.

    Raises:
        UserError: If the config has no such dataset, or the dataset has no instances JSON.
    """
    for inner in inner_datasets(dataset_config(config, loader)):
        if not inner.get('inst_ann_file'):
            raise UserError(
                f'{config.filename}: {loader}.dataset ({inner.get("ann_file")}) has no inst_ann_file, so there is no '
                'true order of overlaps: set it for training and testing'
            )


def annotations_of(config: Config, loader: str, number: int | None) -> tuple[BaseDataset, Iterator[dict]]:
    """The dataset of a dataloader and the annotations of its first images."""
    dataset = annotated_dataset(config, loader)
    number = len(dataset) if number is None else min(number, len(dataset))
    return dataset, (dataset[index] for index in range(number))


def order_of_classes(config: Config, number: int) -> tuple[list[int], Tensor]:
    """The fixed order of classes that fits the training set best, and the counts of pairs behind it."""
    dataset, annotations = annotations_of(config, 'train_dataloader', number)
    num_things = len(dataset.metainfo['thing_classes'])
    wins = torch.zeros((num_things, num_things), dtype=torch.int64)
    for annotation in track(annotations, 'Order of classes', total=min(number, len(dataset)), transient=True):
        masks, labels, shown = things_of(annotation)
        wins += class_wins(front_votes(masks, shown), labels, num_things)
    return best_class_order(wins), wins


def contradictions(class_order: list[int], wins: Tensor, names: Sequence[str]) -> str:
    """Text on the pairs of the training set that an order of classes contradicts."""
    ordered = wins[class_order][:, class_order]
    wrong = [
        (int(ordered[back, front]), f'{names[class_order[back]]} in front of {names[class_order[front]]}')
        for front in range(len(ordered))
        for back in range(front + 1, len(ordered))
        if ordered[back, front]
    ]
    count = sum(number for number, _ in wrong)
    text = f'It contradicts {count} of {int(wins.sum())} overlapping pairs of the training set'
    return text + ''.join(f'\n  {number} {pair}' for number, pair in sorted(wrong, reverse=True)[:5])


@torch.no_grad()
def evidence_of(model: nn.Module, sample: dict) -> Evidence:
    """Evidence of one image, the input of the fusion head."""
    data = model.data_preprocessor(pseudo_collate([sample]), False)
    (evidence,) = model.evidence(data['inputs'], data['data_samples'])
    return evidence


class Orders(NamedTuple):
    """Orders of the instances of an image.

    Attributes:
        found: Indices of the instances from front to back, by the name of the order.
        votes: Votes of the ground truth on pairs, see :func:`mmpanoptic.analysis.instance_orders.true_votes`.
        labels: Labels of the instances, of shape (N,).
    """

    found: dict[str, list[int]]
    votes: Tensor
    labels: Tensor


def orders_of(
    evidence: Evidence,
    head: nn.Module,
    class_order: list[int],
    wins: Tensor,
    annotation: dict,
    generator: torch.Generator,
) -> Orders:
    """All orders of the instances of an image."""
    instances = evidence.instances
    scores, labels = instances.scores.cpu(), instances.labels.cpu()
    masks = instances.masks.bool().cpu()
    by_score = order_instances(scores, head.score_thr)
    orders = {
        'detection score': by_score,
        'random': [by_score[k] for k in torch.randperm(len(by_score), generator=generator).tolist()],
        'fixed by class': order_by_votes(class_votes(masks, labels, class_order, wins), scores, by_score),
    }
    if isinstance(head, RankingFusion):
        orders['learned ranking'] = head.order(evidence)
    truth = things_of(annotation)
    votes = true_votes(masks, best_match(masks, labels, truth.masks, truth.labels, MATCH_IOU), truth.shown)
    orders['true order'] = order_by_votes(votes, scores, by_score)
    return Orders(orders, votes, labels)


def score_orders(
    config: Config, model: nn.Module, args: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Tensor], list[dict]]:
    """Sums for PQ by order, pixels in overlaps by order, and the categories.

    Pixels are as :func:`mmpanoptic.analysis.instance_orders.shown_by_class` counts them, summed over the images.
    """
    head = model.panoptic_fusion_head
    for loader in ('train_dataloader', 'test_dataloader'):
        require_instances(config, loader)
    class_order, wins = order_of_classes(config, args.train_images)
    annotated, annotations = annotations_of(config, 'test_dataloader', args.images)
    images = build_dataset(config, 'test_dataloader')
    names = annotated.metainfo['thing_classes']
    print('Order of classes: ' + ', '.join(names[label] for label in class_order))
    print(contradictions(class_order, wins, names))

    generator = torch.Generator().manual_seed(args.seed)
    matches: dict[str, list] = {}
    overlaps: dict[str, Tensor] = {}
    number = len(annotated) if args.images is None else min(args.images, len(annotated))
    for index, annotation in enumerate(track(annotations, 'Merging', total=number, transient=True)):
        evidence = evidence_of(model, images[index])
        orders = orders_of(evidence, head, class_order, wins, annotation, generator)
        for name, order in orders.found.items():
            panoptic, segments = head.fuse(evidence, order=order)
            matched = match_segments(
                annotation['gt_panoptic_map'],
                annotation['segments_info'],
                panoptic.cpu().numpy(),
                segments,
                head.num_classes,
                annotation['img_path'],
            )
            matches.setdefault(name, []).append(matched)
            pixels = shown_by_class(order, orders.votes, orders.labels, len(names))
            overlaps[name] = overlaps.get(name, 0) + pixels
    stats = {name: accumulate(matched, head.num_classes) for name, matched in matches.items()}
    return stats, overlaps, annotated.metainfo['categories']


def table_of(stats: dict[str, Any], categories: list[dict], classes: list[str] | None) -> Table:
    """Table of PQ by order, for all classes, things, stuff and single classes.

    Raises:
        UserError: If one of ``classes`` is no thing class of the dataset.
    """
    ids = {category['name']: category['id'] for category in categories if category['isthing']}
    by_class = {name: per_class(stat, categories) for name, stat in stats.items()}
    if classes is None:
        first, last = by_class['detection score'], by_class['true order']
        classes = sorted(ids, key=lambda name: first[ids[name]]['pq'] - last[ids[name]]['pq'])[:5]
    if unknown := [name for name in classes if name not in ids]:
        raise UserError(f'--classes {unknown[0]}: the things are {", ".join(ids)}')
    table = Table('order')
    for header in ('PQ', 'PQ_th', 'PQ_st', *classes):
        table.add_column(header, justify='right')
    for name, stat in stats.items():
        values = [average(stat, categories, isthing)['pq'] for isthing in (None, True, False)]
        values += [by_class[name][ids[class_name]]['pq'] for class_name in classes]
        table.add_row(name, *(f'{100 * value:.2f}' for value in values))
    return table


def table_of_overlaps(overlaps: dict[str, Tensor], names: Sequence[str]) -> Table:
    """Table of the share of pixels that each order gives to the right instance, in percent; columns by class."""
    same = torch.eye(len(names), dtype=torch.bool)
    counts = next(iter(overlaps.values()))[1]
    kinds = {'all overlaps': ~same | same, 'of one class': same, 'of two classes': ~same}
    for front, back in sorted(counts.nonzero().tolist(), key=lambda pair: -int(counts[tuple(pair)]))[:MOST_KINDS]:
        kind = kinds[f'{names[front]} on {names[back]}'] = torch.zeros_like(same)
        kind[front, back] = True
    table = Table('order')
    for name, kind in kinds.items():
        table.add_column(f'{name}: {int(counts[kind].sum())}', justify='right')
    for name, (right, every) in overlaps.items():
        shares = (right[kind].sum() / every[kind].sum().clamp(min=1) for kind in kinds.values())
        table.add_row(name, *(f'{100 * float(share):.1f}' for share in shares))
    return table


def main() -> None:
    args = parse_args()
    for flag, number in (('--images', args.images), ('--train-images', args.train_images)):
        if number is not None and number < 1:
            raise UserError(f'{flag} {number}: at least one image is needed')
    if args.out is not None:
        require_folder(osp.dirname(args.out), '--out')
    config = load_config(args.config, args.cfg_options)
    require_file(args.checkpoint, 'checkpoint')
    model, _ = load_model(config, args.checkpoint, args.device, args.trust_checkpoint, args.allow_nan)
    head = getattr(model, 'panoptic_fusion_head', None)
    if head is None:
        raise UserError(
            f'{args.config}: {type(model).__name__} has no panoptic_fusion_head that could merge in an order: use a '
            'panoptic model, such as those of configs/oanet'
        )
    if not isinstance(head, HeuristicFusion):
        raise UserError(
            f'{args.config}: {type(model).__name__} predicts no masks that could overlap, so it needs no order'
        )
    stats, overlaps, categories = score_orders(config, model, args)
    Console().print(table_of(stats, categories, args.classes))
    if args.overlaps:
        things = [category['name'] for category in categories if category['isthing']]
        Console().print(table_of_overlaps(overlaps, things))
    if args.out is not None:
        groups = dict(zip(('', '_th', '_st'), (None, True, False), strict=True))
        scores = {
            f'{args.label}{name}': {
                f'panoptic/PQ{end}': 100 * average(stat, categories, isthing)['pq'] for end, isthing in groups.items()
            }
            for name, stat in stats.items()
        }
        write_whole(args.out, json.dumps(scores, indent=1))
    things = {name: 100 * average(stat, categories, True)['pq'] for name, stat in stats.items()}
    gap = things['true order'] - things['detection score']
    if 'learned ranking' in things and gap > 0:
        closed = 100 * (things['learned ranking'] - things['detection score']) / gap
        print(f'The learned ranking closes {closed:.0f} % of the gap in PQ_th between detection score and true order.')


if __name__ == '__main__':
    cli.run(main)
