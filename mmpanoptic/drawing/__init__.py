"""Pictures as pure functions on numpy arrays; nothing here knows torch, mmengine, mmcv or mmdet."""
