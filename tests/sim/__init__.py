"""A cluster of production nodes in one process, on a loop whose time jumps, under faults that a seed draws.

What runs is what ships: ``Replica``, ``Driver``, ``Lifetimes``, ``LocalStreams``, ``Jobs``, ``GatewayApp``, and of a
node's way into its cluster ``Birth`` and ``Belonging``. What is in place of the world: the loop (``loop``: processes
that are killed, paused, with fast and slow clocks), the disk (``disk``: syncs that take time, stall or fail; a power
cut that leaves what was synced and a prefix of the rest; values that went bad), the network (``network``: delay,
loss, repetition, disorder, cuts of any direction, streams that break, addresses that change). One level is enough:
with the production driver a seed of 500 acknowledged writes takes some 0.9 s, of which the simulated parts are a
third.

A seed draws its size (1, 3 or 5 nodes that begin the cluster; one alone is joined by two), its clocks, links, limits
and clients, and a few kinds of faults (``faults``, ``elections``, ``churn``: nodes come and go, up to six of them,
disks are wiped and damaged, of a minority at a time). After some seconds everything is healed, every node must be a
voter and take writes within a bound, and all must come to hold the same. ``observer`` watches every write for what
must hold between nodes: one leader a term, the same entry and the same state at each index, on the disks of a
majority of the members in force before it is applied, a leader that has all that is committed, time that does not go
back. What clients were told goes to ``tests.history``, which judges real processes, too.

    python -m tests.sim --seed 7                  replays one, and tells what happened
    python -m tests.sim --seeds 200 --from 1000   many, on all cores; ends in a table of what was seen happen
    make sim SEEDS=10000 FROM=0

Not simulated: old images of disks (``tests/raft/test_lives.py``), the gRPC transport and the HTTP server (the tests
of real processes are for those), RocksDB's own files (``tests.system.power``), memory and processor time: whatever
runs takes no time.
"""
