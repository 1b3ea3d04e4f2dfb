"""Independent programs that score panoptic files: numbers by class, and PQ of all, things and stuff."""

import json

import hotcoco.panoptic
import numpy as np
import vernier.panoptic
from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import average_pq, pq_compute_single_core

from mmpanoptic.formats.panoptic_png import decode_panoptic_png


def judge_cityscapes(gt_json, gt_dir, pred_json, pred_dir):
    gt, pred = json.loads(gt_json.read_text()), json.loads(pred_json.read_text())
    predictions = {a['image_id']: a for a in pred['annotations']}
    pairs = [(a, predictions[a['image_id']]) for a in gt['annotations']]
    categories = {c['id']: c for c in gt['categories']}
    stat = pq_compute_single_core(0, pairs, str(gt_dir), str(pred_dir), categories)
    per_class = {c: (stat[c].tp, stat[c].fp, stat[c].fn, stat[c].iou) for c in categories}
    averages = average_pq(stat, categories)
    return per_class, {name: averages[name]['pq'] for name in ('All', 'Things', 'Stuff')}


def judge_hotcoco(gt_json, gt_dir, pred_json, pred_dir):
    result = hotcoco.panoptic.pq_compute(str(gt_json), str(pred_json), str(gt_dir), str(pred_dir))
    per_class = {int(c): (r['tp'], r['fp'], r['fn'], r['iou']) for c, r in result['per_class'].items()}
    return per_class, {name: result[name]['pq'] for name in ('All', 'Things', 'Stuff')}


def judge_vernier(gt_json, gt_dir, pred_json, pred_dir):
    def load(path, folder):
        data = json.loads(path.read_text())
        maps = {
            a['image_id']: decode_panoptic_png((folder / a['file_name']).read_bytes(), 'x').astype(np.uint32)
            for a in data['annotations']
        }
        segments = {str(a['image_id']): a['segments_info'] for a in data['annotations']}
        return maps, json.dumps(segments).encode(), data

    gt_maps, gt_segments, gt = load(gt_json, gt_dir)
    pred_maps, pred_segments, _ = load(pred_json, pred_dir)
    summary = vernier.panoptic.Evaluator(parity_mode='strict').evaluate(
        vernier.panoptic.Dataset.from_arrays(gt_maps, gt_segments, json.dumps(gt['categories']).encode()),
        vernier.panoptic.Predictions.from_arrays(pred_maps, pred_segments),
    )
    per_class = {c['id']: (0, 0, 0, 0.0) for c in gt['categories']}  # it leaves out classes that do not occur
    per_class |= {c: (r.n_tp, r.n_fp, r.n_fn, r.iou_sum) for c, r in summary.per_class().items()}
    return per_class, {'All': summary.pq, 'Things': summary.pq_things, 'Stuff': summary.pq_stuff}


JUDGES = {'cityscapes': judge_cityscapes, 'hotcoco': judge_hotcoco, 'vernier': judge_vernier}
