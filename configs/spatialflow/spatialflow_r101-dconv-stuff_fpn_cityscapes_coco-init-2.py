# Second step: everything is trained, as usual, from what the first leaves behind. Tests at several scales by --tta.
_base_ = ['./spatialflow_r101_fpn_cityscapes.py', '../_base_/tta/panoptic_cityscapes.py']

model = dict(bbox_head=dict(deformable=('stuff',)))
load_from = 'work_dirs/spatialflow_r101-dconv-stuff_fpn_cityscapes_coco-init-1/iter_6000.pth'
