"""The client of durable streams, and the ``durable-streams`` command.

The base install holds this package and needs grpcio and protobuf only; the nodes are in the ``[cluster]`` extra.
No public names yet.
"""
