"""python -m tests.compat: write the directory of the present format version, which must not exist yet."""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from durable_streams_cluster.storage.codecs import FORMAT
from tests.compat.content import build, described

HERE = Path(__file__).parent


def main() -> int:
    target = HERE / f"v{FORMAT}"
    if target.exists():
        print(f"{target.name} is there: a format that has landed is never written again", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        asyncio.run(build(data))
        for useless in [*data.rglob("LOG*"), *data.rglob("lock"), *data.rglob("LOCK")]:
            useless.unlink()
        shutil.copytree(data, target / "data")
        (target / "content.jsonl").write_text(described(data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
