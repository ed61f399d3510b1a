"""One node's groups as one synchronous machine: events in, ``Effects`` out, turn by turn.

``Replica.propose`` and ``Replica.durable`` only note what happened; ``Replica.turn`` does everything that follows from
it at once, so that whatever arrived since the last turn shares one batch and one sync. The caller (``runtime.Driver``,
or a simulator) owes, in this order:

1. write ``effects.batch``, unsynced, then call ``written``: readers now find what the turn did;
2. when ``must_sync``: begin a sync, and after it call ``durable(effects.ticket)``: what waits for it comes out of the
   next turn;
3. resolve ``completions`` and deliver ``wakes``: what they report is durable on a quorum already.

If the store refuses the batch (write stall) the same effects are tried again before any other turn.

Read ``effects``, then ``replica`` and ``group``; ``tails`` is who waits for which stream.
"""
