"""A node of ``cluster up``: ``serve``, ended when its standard input ends, as it does with the process that started it.

That holds on every Unix, however that process ended; nothing else tells of a ``kill -9`` there.
"""

import os
import signal
import sys
import threading

from durable_streams_cluster import cli, process

GRACE_S = 20.0
"""How long the drain may take, for which then nobody waits."""


def main() -> int:
    """Run the command line given; return its exit code."""
    threading.Thread(target=_watch, name="parent", daemon=True).start()
    return cli.run(sys.argv[1:])


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(process.EXIT_FAULT)


if __name__ == "__main__":
    sys.exit(main())
