# Objects of another image are pasted in front of what is there, both after large-scale jitter.
# Ghiasi et al., https://arxiv.org/abs/2012.07177
_base_ = './coco_panoptic_lsj.py'

jittered = _base_.train_dataloader.dataset
jittered.pipeline.pack = None  # first comes what is pasted
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiImageMixDataset',
        dataset=jittered,
        pipeline=dict(paste=dict(type='PanopticCopyPaste'), pack=dict(type='PackPanopticInputs')),
    )
)

del jittered
