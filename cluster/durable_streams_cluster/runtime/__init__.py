"""The shell: the event loop, the disk's thread, and everything that can block or fail.

===========  ============================  ===========================================================
task         who owns it                   what it does
===========  ============================  ===========================================================
turns        ``driver.Driver``             runs ``Replica.turn`` and carries out its effects
disk thread  ``disk.Disk``                 ``sync`` and ``flush``, one at a time
jobs         ``jobs.Jobs``                 every second: overdue operations, streams whose time is up
===========  ============================  ===========================================================

``service.LocalStreams`` is ``api.Streams`` on top of the driver.
"""
