# CIAE on PANet's neck.
_base_ = '../ciae/ciae_r50_fpn_90k_coco.py'

model = dict(neck=dict(type='PAFPN'))
