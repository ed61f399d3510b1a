"""A worker without an event loop, which goes on where it was when it is started again.

python examples/worker.py 127.0.0.1:4438
"""

import sys
import tempfile
from pathlib import Path

from durable_streams_client import FileOffsetStore
from durable_streams_client.sync import Client, Stream


def work(jobs: Stream, place: Path, most: int) -> list[int]:
    """Do up to so many jobs, and keep which was the last."""
    done: list[int] = []
    with jobs.follow(store=FileOffsetStore(place), name="worker-1", max_bytes=1) as pages:
        for page in pages:
            done += [job["number"] for job in page.json()]
            pages.commit()
            if len(done) >= most:
                break
    return done


def main(target: str) -> None:
    with Client(target) as client, tempfile.TemporaryDirectory() as folder:
        jobs = client.stream("examples/jobs")
        jobs.create(content_type="application/json")
        for number in range(5):
            jobs.append({"number": number})
        jobs.close()
        place = Path(folder) / "offsets.json"
        print("first run:", work(jobs, place, most=2))
        print("second run:", work(jobs, place, most=99))
        jobs.delete()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:4438")
