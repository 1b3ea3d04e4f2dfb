"""What runs things: runner, hooks, checkpoints, devices, command line.

A tool that only reads files must not pay for it: what the registries look for is imported by :mod:`.parts`.
"""
