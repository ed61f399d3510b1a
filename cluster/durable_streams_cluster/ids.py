"""Names of things that are numbers, so that they cannot be mixed up."""

from typing import NewType

NodeId = NewType("NodeId", str)
"""A node's configured name, e.g. ``n1``."""

GroupId = NewType("GroupId", int)
"""A Raft group; 1 holds every slot until placement moves some."""

Term = NewType("Term", int)
"""A Raft term (thesis 3.3)."""

Index = NewType("Index", int)
"""A position in a group's Raft log; the first entry has index 1."""
