"""Scores: panoptic quality as pure functions, the account of lost points, metrics, tables."""
