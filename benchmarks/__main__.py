"""python -m benchmarks: the comparison."""

import sys

from benchmarks.compare import main

if __name__ == "__main__":
    sys.exit(main())
