from .causes import CAUSES, Causes, find_causes
from .ledger import LOSSES, Ledger, balance, ledger_of, points_of
from .oracles import BUNDLES, mended, oracle_table

__all__ = [
    'BUNDLES',
    'CAUSES',
    'LOSSES',
    'Causes',
    'Ledger',
    'balance',
    'find_causes',
    'ledger_of',
    'mended',
    'oracle_table',
    'points_of',
]
