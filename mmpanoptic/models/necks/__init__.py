from .pafpn import PAFPN

__all__ = ['PAFPN']
