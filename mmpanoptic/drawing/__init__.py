"""Pictures as pure functions on numpy arrays; nothing here imports torch, mmengine, mmcv or mmdet."""
