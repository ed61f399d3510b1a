"""Streams that are elsewhere."""
