from .steps import Places, Submission, plan, submit
from .targets import TARGETS, Target

__all__ = ['TARGETS', 'Places', 'Submission', 'Target', 'plan', 'submit']
