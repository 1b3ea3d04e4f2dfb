_base_ = './table5_naive.py'

# The paper's image size could not be read: 600 pixels is what its numbers suggest.
train_dataloader = dict(dataset=dict(pipeline=dict(resize=dict(scale=(1000, 600)))))
val_dataloader = dict(dataset=dict(pipeline=dict(resize=dict(scale=(1000, 600)))))
test_dataloader = val_dataloader
