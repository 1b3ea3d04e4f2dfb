_base_ = './panet_r50_fpn_syncbn_24k_cityscapes.py'

# What training by the config for COCO leaves behind; of another place or another config:
#   --cfg-options load_from=CHECKPOINT
load_from = 'work_dirs/panet_r50_fpn_syncbn_ms-160k_coco/iter_160000.pth'
# Output layers start from the COCO classes of the same name: person, car, truck, bus, train, motorcycle, bicycle.
default_hooks = dict(checkpoint=dict(interval=1000), transfer=dict(mapping=dict(rider='person')))

# The schedule of Mask R-CNN's appendix is for 8 images a batch, which PANet's is on Cityscapes: nothing to scale.
train_cfg = dict(max_iters=4000, val_interval=1000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=4000, milestones=[3000])
