_base_ = './table3_r50-baseline.py'

# Two networks: a backbone and an FPN for instances, another pair for stuff.
model = dict(share='none')
