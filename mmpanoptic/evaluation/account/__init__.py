from .causes import CAUSES, Causes, find_causes
from .ledger import LOSSES, Ledger, balance, ledger_of, points_of
from .oracles import BUNDLES, mended, oracle_table
from .segments import lost_segments

__all__ = [
    'BUNDLES',
    'CAUSES',
    'LOSSES',
    'Causes',
    'Ledger',
    'balance',
    'find_causes',
    'ledger_of',
    'lost_segments',
    'mended',
    'oracle_table',
    'points_of',
]
