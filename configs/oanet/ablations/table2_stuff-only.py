_base_ = './table3_r50-baseline.py'

# The stuff branch is not taught the things.
model = dict(semantic_head=dict(seg_classes='stuff'))
