_base_ = './table11_600px.py'

# Trained at that size, too.
train_dataloader = dict(dataset=dict(pipeline=dict(resize=dict(scale=(1000, 600)))))
