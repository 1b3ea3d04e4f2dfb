_base_ = './table3_r50-baseline.py'

model = dict(semantic_head=dict(loss_seg=dict(loss_weight=1.0)))
