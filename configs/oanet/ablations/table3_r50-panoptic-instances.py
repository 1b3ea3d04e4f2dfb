_base_ = './table4_r50-share-none.py'

# Instances are cut from the panoptic PNGs. The paper's row is of two networks.
train_dataloader = dict(dataset=dict(inst_ann_file=None))
val_dataloader = dict(dataset=dict(inst_ann_file=None))
test_dataloader = val_dataloader
