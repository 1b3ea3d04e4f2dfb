from . import anchor_heads  # noqa: F401  (registers)
from .ciae_proposal_head import CIAEProposalHead, CIAEProposals
from .detectron_rpn_head import DetectronRPNHead
from .spatialflow_head import SpatialFlowHead, SpatialFlowOutputs

__all__ = ['CIAEProposalHead', 'CIAEProposals', 'DetectronRPNHead', 'SpatialFlowHead', 'SpatialFlowOutputs']
