"""Chaos: a cluster of real processes under load, faults that somebody might meet, and a checker of what was told."""
