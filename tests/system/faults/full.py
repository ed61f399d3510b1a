"""A disk that runs full: a small file system of its own (tmpfs, which takes root to mount)."""

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.system.faults.life import NEVER, ContradictionError, Life, SmallDiskServer
from tests.system.kill.history import Kind, Outcome
from tests.system.kill.wire import Answer, Connection
from tests.system.kill.workload import PREFIX

OWN = "507 with Retry-After before RocksDB fails; reads, deletes, closes go on; appends work again without a restart"
OTHERS = "exit 1, says so; opens with its ballast, reads and deletes; 507 until there is room, then appends, no restart"
ELSEWHERE = "the same, but deleting streams was not enough: appends again once the others gave room back, no restart"

DISK_MIB = 160
FILLER = 200_000
LARGE = 16_000_000
"""Bytes of one append of those that fill the disk, at least and at most."""
WAIT = 60.0


@contextlib.contextmanager
def small_disk(folder: Path, mib: int = DISK_MIB) -> Iterator[Path]:
    """A file system of its own at ``folder/disk``."""
    place = folder / "disk"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "durable-streams-test", place], check=True)
    try:
        yield place
    except BaseException:
        shutil.copytree(place, folder / "kept", ignore=shutil.ignore_patterns("hog", "ballast"))
        raise
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def by_itself(folder: Path, seed: str) -> str:
    """It is filled through the node; then streams are deleted; at last the node is killed."""
    with small_disk(folder) as disk:
        server = SmallDiskServer(disk)
        life = Life(server, disk / "data", seed)
        try:
            life.begin()
            life.load(life.chance.randint(10, 100))
            fillers = asyncio.run(_fill(life, 1000, life.chance.choice([2_000_000, 6_000_000, LARGE])))
            fillers += asyncio.run(_fill(life, 1000))
            _full(life)
            asyncio.run(_delete(life, fillers))
            if not asyncio.run(_room_again(life)):
                place = os.statvfs(life.data)
                free = place.f_bavail * place.f_frsize >> 20
                raise ContradictionError(f"no appends {WAIT:g} s after the deletion; {free} MiB are free")
            life.load(life.chance.randint(20, 100), server.kill)
            life.begin()
            life.go_on()
        finally:
            life.end()
    return OWN


def by_others(folder: Path, seed: str) -> str:
    """At a random moment of the load, something else takes all the room that there is, and keeps it."""
    with small_disk(folder) as disk:
        server = SmallDiskServer(disk)
        life = Life(server, disk / "data", seed)
        try:
            life.begin()
            fillers = asyncio.run(_fill(life, life.chance.randint(30, 45)))

            async def take_all() -> None:
                await asyncio.sleep(life.chance.uniform(0.0, 0.7))
                while life._running():
                    await asyncio.to_thread(_hog, disk)

            life.load(NEVER, None, take_all)
            words = life.last_words()
            if "The disk is full" not in words:
                raise ContradictionError(f"it ended, and did not say why: {words}")
            _hog(disk)
            life.begin()
            life.check(send_again=False)
            _full(life)
            asyncio.run(_delete(life, fillers))
            answer = OTHERS
            if not asyncio.run(_room_again(life)):
                answer = ELSEWHERE
            (disk / "hog").unlink()  # also so that the check can send its batches again
            if not asyncio.run(_room_again(life)):
                raise ContradictionError(f"no appends {WAIT:g} s after there was room")
            life.load(life.chance.randint(20, 100), server.kill)
            life.begin()
            life.go_on()
        finally:
            life.end()
    return answer


def _hog(disk: Path) -> None:
    """Write until nothing more fits."""
    with (disk / "hog").open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


async def _fill(life: Life, most: int, size: int = FILLER) -> list[str]:
    """So many MiB, or until the disk is full for appends of ``size``; the streams that were made for it."""
    connection, made = Connection(*life._address), list[str]()
    chance = random.Random(life.seed)
    kind = {"content-type": "application/octet-stream"}
    try:
        while len(made) * 5 < most:
            path = f"{PREFIX}filler/{life.history.tick()}"
            answer = await connection.request("PUT", path, kind)
            if answer.status == 507:
                _says_why(answer)
                return made
            made.append(path)
            for _ in range(max(1, 5 * (1 << 20) // size)):
                while True:
                    answer = await connection.request("POST", path, kind, chance.randbytes(size))
                    if answer.status != 429:
                        break
                    await asyncio.sleep(0.02)
                if answer.status == 507:
                    _says_why(answer)
                    return made
                if answer.status != 204:
                    raise ContradictionError(f"an append was answered {answer.status}: {answer.body[:300]!r}")
        return made
    finally:
        connection.close()


def _says_why(answer: Answer) -> None:
    if answer.code != "storage_full" or "retry-after" not in answer.headers or b"nothing was stored" not in answer.body:
        raise ContradictionError(f"507 without its reason: {answer.headers} {answer.body!r}")


def _full(life: Life) -> None:
    """What grows is refused, all else is done; and the checker finds that nothing refused was stored."""
    for _ in range(10):
        begun = len(life.history.ops)
        life.load(150)
        if not life._running():
            raise ContradictionError(f"it ended on a full disk: {life.last_words()}")
        refused = [op for op in life.history.ops[begun:] if op.outcome is Outcome.REFUSED and op.note == "507"]
        if wrong := [op for op in refused if not op.records and op.kind not in {Kind.CREATE, Kind.FORK}]:
            raise ContradictionError(f"{wrong[0].kind.value} was refused on a full disk")
        life.check(send_again=False)
        if refused:
            return
        asyncio.run(_fill(life, 1000))  # what RocksDB rewrote meanwhile gave room for small ones
    raise ContradictionError("the disk was full, and nothing was refused")


async def _delete(life: Life, paths: list[str]) -> None:
    connection = Connection(*life._address)
    try:
        for path in paths:
            while True:
                answer = await connection.request("DELETE", path)
                if answer.status != 429:
                    break
                await asyncio.sleep(0.02)
            if answer.status not in {204, 404}:
                raise ContradictionError(f"a delete on a full disk was answered {answer.status}: {answer.body!r}")
    finally:
        connection.close()


async def _room_again(life: Life) -> bool:
    """Whether appends are taken, after a while, by the same process."""
    connection = Connection(*life._address)
    path = f"{PREFIX}filler/again-{life.history.tick()}"
    try:
        async with asyncio.timeout(WAIT):
            while True:
                answer = await connection.request("PUT", path, {"content-type": "text/plain"}, b"x")
                if answer.status == 201:
                    return True
                if answer.status not in {429, 507}:
                    raise ContradictionError(f"answered {answer.status}: {answer.body!r}")
                await asyncio.sleep(0.1)
    except TimeoutError:
        return False
    finally:
        connection.close()
