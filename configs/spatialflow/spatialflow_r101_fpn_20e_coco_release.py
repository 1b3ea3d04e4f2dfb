_base_ = './spatialflow_r101_fpn_20e_coco.py'

# The released code sums the stuff loss over the images of a GPU, two of them: the weight acts as
# twice the paper's 0.25.
model = dict(semantic_head=dict(loss_seg=dict(loss_weight=0.5)))
