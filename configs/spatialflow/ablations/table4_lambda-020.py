_base_ = './table4_lambda-025.py'

model = dict(semantic_head=dict(loss_seg=dict(loss_weight=0.2)))
