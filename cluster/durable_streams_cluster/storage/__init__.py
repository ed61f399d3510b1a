"""The storage chapter: one database, two families of keys, one sync for all groups.

``kv`` is the port; ``memory`` and ``rocks`` implement it. ``keys`` is the whole key space in one table. ``raft_log``
keeps entries and hard state (a ``raft.LogReader``), ``stream_store`` keeps streams (a ``streams.StreamView``);
``codecs`` turns their values into bytes and back. Nothing here decides anything.
"""
