"""``python -m durable_streams_cluster``: the same command as ``durable-streams``."""

import sys

from durable_streams_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
