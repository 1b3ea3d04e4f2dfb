from . import anchor_heads  # noqa: F401  (registers)
from .ciae_proposal_head import CIAEProposalHead, CIAEProposals
from .spatialflow_head import SpatialFlowHead, SpatialFlowOutputs

__all__ = ['CIAEProposalHead', 'CIAEProposals', 'SpatialFlowHead', 'SpatialFlowOutputs']
