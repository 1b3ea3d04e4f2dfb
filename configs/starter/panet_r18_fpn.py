_base_ = [
    '../_base_/models/mask-rcnn_r18_fpn_small.py',
    '../_base_/models/panet_parts.py',
    '../_base_/datasets/own_instance.py',
    '../_base_/schedules/schedule_own.py',
]

model = _base_._panet
model.roi_head.bbox_head.update(num_classes='auto', conv_out_channels=64)
model.roi_head.mask_head.update(num_classes='auto', num_convs=4)
