"""A hundred thousand records, each stored once and in order, whatever node dies meanwhile.

python examples/exactly_once.py 127.0.0.1:4438,127.0.0.1:4448,127.0.0.1:4458
"""

import asyncio
import sys

from durable_streams_client import Client

RECORDS = 100_000


async def main(target: str) -> None:
    async with Client(target) as client:
        log = client.stream("examples/log", content_type="text/plain")
        await log.create()
        async with log.producer() as producer:
            for number in range(RECORDS):
                await producer.append(f"{number}\n")  # Waits while there is no room, and not for the disk.
        # Behind the block everything is stored. Of one record: `ack = await producer.append(...)`, then `await ack`.
        await log.close()
        text = "".join([part async for part in log.follow().iter_text()])
        assert text == "".join(f"{number}\n" for number in range(RECORDS))
        print(f"{RECORDS} records, each once and in order")
        await log.delete()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:4438"))
