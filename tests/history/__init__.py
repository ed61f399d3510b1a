"""Histories: what clients did and were told, as records (``records``), and whether it can be true (``checker``).

The simulation (``tests.sim``) and runs of real processes write the same records. ``story`` makes up histories of
servers that do everything right, and of some that do one thing wrong: the checker is tested with those.
"""
