# Objects of another image are pasted in front of what is there: see _base_/datasets/coco_panoptic_lsj_copy_paste.py.
_base_ = './panoptic-fpn_r18_fpn_shapes.py'

images = _base_.train_dataloader.dataset
images.pipeline.pack = None
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiImageMixDataset',
        dataset=images,
        pipeline=dict(paste=dict(type='PanopticCopyPaste'), pack=dict(type='PackPanopticInputs')),
    )
)

del images
