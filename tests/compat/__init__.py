"""A small data directory of each landed format version, opened by every later build.

``python -m tests.compat`` writes the directory of the present version; never again once it has landed.
"""
