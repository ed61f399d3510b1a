"""The stream machine: the protocol's rules with no HTTP, no disk and no clock.

``machine.apply(view, command, stamp) -> Applied(outcome, writes, wakes)`` is the whole of it, and ``apply_run`` is the
same for appends to one path in a row. The caller owes: commands in log order, one ``Stamp`` an entry from the leader, a
``StreamView`` that shows the writes of every earlier command (also those of the same turn), and writes and applied
index stored atomically.

Read ``commands`` and ``outcomes`` first, then ``machine`` and ``appending``; ``meta``, ``producers``, ``forks`` and
``lifetime`` hold the rules they use. ``offsets``, ``reading`` and ``json_mode`` also serve reads, which never go
through the log.
"""
