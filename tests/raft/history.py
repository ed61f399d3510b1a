"""Short histories by hand: who is elected by whom, who hears whom, and what arrives late."""

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import EntryId, Message, Role, Settings
from tests.raft.cluster import Cluster, Packet, show

N1, N2, N3, N4, N5 = (NodeId(f"n{number}") for number in range(1, 6))
ELECTION = 10


def cluster(size: int = 3, *, noop: bool = True, cache: int = 10_000) -> Cluster:
    """Members that all stand after the longest timeout: only who is told to."""
    settings = Settings(heartbeat_ticks=3, election_ticks=ELECTION, stall_ticks=1000, cache_bytes=cache)
    return Cluster(size, settings, lambda _, below: below - 1, noop=noop)


def elect(world: Cluster, name: NodeId, *voters: NodeId) -> None:
    """``name`` is elected by these (all others), and hears from nobody else until the links are mended."""
    voters = voters or tuple(each for each in world.up if each != name)
    party = {name, *voters}
    world.cut = {link: True for link in world.links if not party.issuperset(link)}
    for voter in voters:
        for _ in range(3 * ELECTION):
            if world.nodes[voter].core.role is Role.LEADER or world.nodes[voter].core._state.hears_leader:
                world.tick(voter)
                world.turn(voter)
    for packets in world.links.values():
        packets.clear()
    for _ in range(4 * ELECTION):
        world.tick(name)
        world.settle()
        if world.nodes[name].core.role is Role.LEADER:
            return
    raise AssertionError(f"{name} is not elected: {world.trace}")


def only(world: Cluster, *names: NodeId) -> None:
    """Only links among these are open."""
    world.cut = {link: True for link in world.links if not set(names).issuperset(link)}


def write(world: Cluster, name: NodeId, *data: str) -> None:
    for each in data:
        world.propose(name, each.encode())
    world.turn(name)


def forge(world: Cluster, sender: NodeId, to: NodeId, *messages: Message) -> None:
    """Messages that the sender could have sent, and that arrive now, in one turn."""
    world.turn(to)
    world.cut.pop((sender, to), None)
    for message in messages:
        world.links[sender, to].appendleft(Packet(message))
        world.deliver((sender, to))


def log(world: Cluster, name: NodeId) -> str:
    found = world.nodes[name].core.log
    return " ".join(show(EntryId(found.term_at(Index(n)) or Term(0), Index(n))) for n in range(1, found.last + 1))


def pass_time(world: Cluster) -> None:
    """All clocks run for some election timeouts."""
    for _ in range(4 * ELECTION):
        for name in world.up:
            world.tick(name)
        world.settle()


def peace(world: Cluster) -> None:
    """All links work: one leader, and all logs and states are the same."""
    world.cut = {}
    pass_time(world)
    assert len(world.leaders) == 1
    cores = [world.nodes[name].core for name in world.up]
    assert len({core.log.newest for core in cores}) == 1
    assert {core.log.committed for core in cores} == {cores[0].log.last}
    assert len({world.nodes[name].disk.visible.machine for name in world.up}) == 1


def figure_8(world: Cluster) -> None:
    """Paper, figure 8 (thesis 3.7), up to (c): n1 leads again, and a majority has an entry of its first term."""
    elect(world, N1)
    only(world, N1, N2)
    write(world, N1, "a")
    world.deliver((N1, N2))
    world.turn(N2)
    world.crash(N1)
    elect(world, N5, N3, N4)
    only(world)
    write(world, N5, "b")
    world.crash(N5)
    world.restart(N1)
    elect(world, N1, N2, N3)
    assert [log(world, name) for name in (N1, N2, N3)] == ["1/1"] * 3
