"""Runner, hooks, checkpoints, devices and command line.

This module imports nothing, so that tools that only read files start fast; :mod:`.parts` imports what registries find.
"""
