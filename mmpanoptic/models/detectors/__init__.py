from .panoptic_fpn import PanopticFPN

__all__ = ['PanopticFPN']
