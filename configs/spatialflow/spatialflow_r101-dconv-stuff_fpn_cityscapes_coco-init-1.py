# First of two steps from COCO to Cityscapes: only layers that the model for COCO does not have in this form are
# trained, those whose size depends on the number of classes and the offsets of the stuff sub-network. Learning rate
# and length are unverified: the paper's could not be read.
_base_ = './spatialflow_r101_fpn_cityscapes.py'

model = dict(bbox_head=dict(deformable=('stuff',)))

# A rate of 0 leaves everything else as it is, weight decay included.
fixed, trained = dict(lr_mult=0.0), dict(lr_mult=1.0)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'backbone': fixed,
            'neck': fixed,
            'bbox_head': fixed,
            'mask_head': fixed,
            'semantic_head': fixed,
            'bbox_head.retina_cls': trained,
            'bbox_head.stuff_spatial_flow_convs': trained,
            'mask_head.conv_logits': trained,
            'semantic_head.conv_logits': trained,
        }
    )
)
train_cfg = dict(max_iters=6000, val_interval=6000)  # unverified
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)]
# What training by the config for COCO leaves behind; of another place: --cfg-options load_from=CHECKPOINT
load_from = 'work_dirs/spatialflow_r101_fpn_20e_coco/epoch_20.pth'

del fixed, trained
