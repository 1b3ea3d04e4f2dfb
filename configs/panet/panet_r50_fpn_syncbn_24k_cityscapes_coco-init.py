_base_ = './panet_r50_fpn_syncbn_24k_cityscapes.py'

# What training by the config for COCO leaves behind; of another place or another config:
#   --cfg-options load_from=CHECKPOINT
# The last layers of the heads, which have COCO's classes, do not fit and start anew: mmengine lists them as it loads.
load_from = 'work_dirs/panet_r50_fpn_syncbn_ms-160k_coco/iter_160000.pth'
