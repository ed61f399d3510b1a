"""A chat: messages in a JSON stream, and a reader that sees them as they come.

python examples/chat.py 127.0.0.1:4438
"""

import asyncio
import sys

from durable_streams_client import Client


async def main(target: str) -> None:
    async with Client(target) as client:
        chat = client.stream("examples/chat")
        await chat.create(content_type="application/json", ttl_s=3600)

        begin = (await chat.head()).offset  # Only what is said from now on is heard.

        async def listen() -> None:
            async for message in chat.follow(begin).iter_json():
                print(f"{message['who']}: {message['say']}")
                if message["say"] == "bye":
                    return

        listening = asyncio.create_task(listen())
        for who, say in [("ada", "hello"), ("bob", "hi!"), ("ada", "bye")]:
            await chat.append({"who": who, "say": say})
        await listening
        await chat.delete()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:4438"))
