"""Compute the terms of the adaptation objective (method E7-E11)."""
