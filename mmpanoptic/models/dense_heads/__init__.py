from .ciae_proposal_head import CIAEProposalHead
from .spatialflow_head import SpatialFlowHead

__all__ = ['CIAEProposalHead', 'SpatialFlowHead']
