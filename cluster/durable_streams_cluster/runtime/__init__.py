"""The shell: the event loop, the disk's thread, and everything that can block or fail.

===========  ============================  ===========================================================
task         who owns it                   what it does
===========  ============================  ===========================================================
turns        ``driver.Driver``             runs ``Replica.turn`` and carries out its effects
disk thread  ``disk.Disk``                 ``sync`` and ``flush``, one at a time
jobs         ``jobs.Jobs``                 every second: overdue operations, streams whose time is up
dialers      ``peers.Peers``               one for each of the two streams to each peer
streams      ``grpc_listener.Listener``    one for each stream that a peer opened
===========  ============================  ===========================================================

``service.LocalStreams`` is ``api.Streams`` on top of the driver. ``peers`` is the door to the other nodes; only
``grpc_*`` know what it is made of.
"""
