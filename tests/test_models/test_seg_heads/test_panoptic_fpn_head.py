"""PanopticFPNHead: mmdet's predictions, which say what they are."""

import torch
from mmdet.models import PanopticFPNHead as MMDetPanopticFPNHead

from mmpanoptic.models import PanopticFPNHead
from mmpanoptic.structures import StuffLogits


def test_predictions_are_mmdets():
    torch.manual_seed(0)
    options = dict(num_things_classes=3, num_stuff_classes=2, in_channels=4, inner_channels=4, norm_cfg=None)
    ours, theirs = PanopticFPNHead(**options).eval(), MMDetPanopticFPNHead(**options).eval()
    theirs.load_state_dict(ours.state_dict())
    x = [torch.rand(1, 4, size, size) for size in (16, 8, 4, 2)]
    metas = [dict(batch_input_shape=(64, 64), img_shape=(48, 64), ori_shape=(96, 128))]
    for rescale, size in ((True, (96, 128)), (False, (48, 64))):
        with torch.no_grad():
            (found,), (expected,) = ours.predict(x, metas, rescale), theirs.predict(x, metas, rescale)
        assert isinstance(found, StuffLogits) and found.channels == 'stuff+other'
        assert torch.equal(found.logits, expected[:, : size[0]]), "without what mmdet's have of the padding"
        assert found.of_stuff(3, 2).shape == (3, *size)
