_base_ = './table3_r101-baseline.py'

# Two networks: a backbone and an FPN for instances, another pair for stuff.
model = dict(share='none')
