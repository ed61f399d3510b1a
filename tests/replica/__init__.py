"""Single turns of a node: what is written, and what is answered when."""
