from .instance_tta import InstanceTTAModel, View

__all__ = ['InstanceTTAModel', 'View']
