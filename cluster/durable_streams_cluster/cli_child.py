"""A node that somebody's program runs: ``serve``, ended when its standard input ends, as it does with that program.

That holds on every Unix, however the program ended; nothing else tells of a ``kill -9`` there. ``cluster up`` starts
its nodes so, and ``durable_streams_client.testing`` those of users' tests.
"""

import os
import signal
import sys
import threading

from durable_streams_client import cli

GRACE_S = 20.0
"""How long the drain may take, for which then nobody waits."""


def main() -> int:
    """Run the command line given; return its exit code."""
    threading.Thread(target=_watch, name="parent", daemon=True).start()
    return cli.main(sys.argv[1:])


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
