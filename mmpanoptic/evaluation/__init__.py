"""Scores: panoptic quality as pure functions, the account of what is lost, metrics, tables."""
