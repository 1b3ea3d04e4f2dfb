# For the built-in dataset: half of ResNet-18's channels, so that a few minutes on two cores are enough.
_base_ = './ciae_r18_fpn_small.py'

model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]),
)
