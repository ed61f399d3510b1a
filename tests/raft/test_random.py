"""Random schedules: every fault at once, then peace, in which the cluster must come back; a seed replays it."""

from collections import Counter
from random import Random

import pytest

from durable_streams_cluster.ids import Index, NodeId
from durable_streams_cluster.raft import AddLearner, Member, Membership, Promote, Remove, Room, Settings
from tests.raft.cluster import Cluster, Link, Node

SETTINGS = Settings(
    heartbeat_ticks=2,
    election_ticks=8,
    stall_ticks=14,
    message_bytes=12,
    window_messages=3,
    window_bytes=30,
    apply_bytes=20,
    cache_bytes=600,
)
STEPS = 700
MOST_NAMES, MOST_MEMBERS = 9, 6
WORLDS_PER_SEED = 8
EACH_SEEN = (
    "truncation",
    "transfer",
    "snapshot installed",
    "a majority was not heard from for an election timeout",
    "the disk does not finish what was written",
    "append rejected",
    "read failed",
    "read answered",
    "disk full",
    "restart",
    "AddLearner",
    "Promote",
    "Remove",
    "this node was removed",
)


class Schedule:
    """One world and the chance that drives it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        size = self.random.choice((3, 3, 5))
        self.jitter = self.random.choice((2, 4, 8))
        """Below what election timeouts differ: the less, the more members stand at once."""
        self.cluster = Cluster(size, SETTINGS, lambda _, below: self.random.randrange(min(self.jitter, below)))
        self.cluster.lazy = self.random.random() < 0.4
        self.slow: dict[NodeId, bool] = {}
        """Whose clock hardly runs: a paused machine."""
        self.count = 0
        self.lossy = self.random.random() < 0.7
        """Whether this world's messages are lost, doubled and overtaken, or only late."""
        churn = self.random.choice((0, 0, 0.4, 1.5))
        actions = {
            self.all_tick: 30,
            self.one_ticks: 6,
            self.hop: 45,
            self.propose: 18,
            self.read: 8,
            self.compact: 3,
            self.transfer: 0.5,
            self.crash: 1.0,
            self.restart: 6,
            self.cut: 1.0,
            self.mend: 2.5,
            self.stall: 0.4,
            self.go_on: 0.4,
            self.behead: 1.2,
            self.pause: 1.0,
            self.lose: 8 if self.lossy else 0,
            self.unreachable: 0.5,
            self.fill: 0.8,
            self.grow: churn,
            self.promote: 2 * churn,
            self.shrink: churn,
        }
        self.actions, self.weights = (
            list(actions),
            [each * self.random.choice((0.3, 1, 2)) for each in actions.values()],
        )

    def run(self) -> Counter[str]:
        if self.random.random() < 0.8:
            self._elected()
        for action in self.random.choices(self.actions, self.weights, k=STEPS):
            action()
        self.cluster.trace.append("-- peace")
        self.heal()
        self.cluster.marks["read answered"] += self.cluster.checker.answered
        self.cluster.marks["committed"] += self.cluster.checker.top
        return self.cluster.marks

    # ------------------------------------------------------------------------------------------------------ time, work

    def _one(self) -> NodeId | None:
        return self.random.choice(self.cluster.up) if self.cluster.up else None

    def one_ticks(self) -> None:
        if (name := self._one()) is not None:
            self.cluster.tick(name)

    def all_tick(self) -> None:
        for name in self.cluster.up:
            if name not in self.slow or self.random.random() < 0.1:
                self.cluster.tick(name)

    def hop(self) -> None:
        """Some links deliver some, and most members do a part of what they owe."""
        for link, packets in self.cluster.links.items():
            for _ in range(min(len(packets), self.random.randrange(5))):
                self.cluster.deliver(link)

        for name in self.cluster.up:
            if self.random.random() < 0.8:
                self._work(name)

    def _work(self, name: NodeId) -> None:
        node = self.cluster.nodes[name]
        self.cluster.ready(name)
        if node.numbers and not node.stalled and self.random.random() < 0.8:
            self.cluster.sync(name, self.random.choice(node.numbers))
        if node.to_apply and self.random.random() < 0.8:
            self.cluster.apply(name, self.random.choice(node.to_apply).index)

    def propose(self) -> None:
        for name in self.cluster.leaders:
            for _ in range(self.random.randrange(4)):
                if self.cluster.nodes[name].core.may_propose:
                    self.count += 1
                    self.cluster.propose(name, b"%0*d" % (self.random.choice((1, 4, 9, 20)), self.count))

    def read(self) -> None:
        for name in self.cluster.leaders:
            self.count += 1
            self.cluster.read(name, self.count)

    def compact(self) -> None:
        if (name := self._one()) is not None:
            applied = self.cluster.nodes[name].disk.visible.machine.applied.index
            self.cluster.compact(name, Index(max(1, applied + 1 - self.random.randrange(4))))

    def transfer(self) -> None:
        for name in self.cluster.leaders:
            others = [other for other in self.cluster.nodes[name].core.membership.voters if other != name]
            if others:
                self.cluster.transfer(name, self.random.choice(others))

    # ------------------------------------------------------------------------------------------------------ membership

    def _leading(self) -> tuple[NodeId, Membership] | None:
        if not self.cluster.leaders:
            return None
        name = self.random.choice(self.cluster.leaders)
        return name, self.cluster.nodes[name].core.membership

    def grow(self) -> None:
        """A node joins, or one that could not yet is added."""
        if (leading := self._leading()) is None:
            return
        leader, membership = leading
        nodes = self.cluster.nodes.values()
        asking = [node.name for node in nodes if node.disk.durable.machine.membership is None]
        if not asking and len(self.cluster.names) < MOST_NAMES:
            asking.append(NodeId(f"n{len(self.cluster.names) + 1}"))
            self.cluster.join(asking[0])
        if asking and len(membership.members) < MOST_MEMBERS:
            self.cluster.change(leader, AddLearner(Member(self.random.choice(asking))))

    def promote(self) -> None:
        """However far behind it is: that is unwise, and not wrong."""
        if (leading := self._leading()) is not None and leading[1].learners:
            self.cluster.change(leading[0], Promote(self.random.choice(leading[1].learners)))

    def shrink(self) -> None:
        """Anybody, the leader too."""
        if (leading := self._leading()) is not None and len(leading[1].members) > 2:
            self.cluster.change(leading[0], Remove(self.random.choice(leading[1].nodes)))

    # ---------------------------------------------------------------------------------------------------------- faults

    def crash(self) -> None:
        if self.cluster.up:
            name = self.random.choice(self.cluster.up + self.cluster.leaders)
            self.cluster.crash(name, self.random.randrange(4))

    def restart(self) -> None:
        down = [name for name in self.cluster.names if name not in self.cluster.up]
        if down:
            self.cluster.marks["restart"] += 1
            self.cluster.restart(self.random.choice(down))

    def _link(self) -> Link:
        return self.random.choice(list(self.cluster.links))

    def cut(self) -> None:
        """One way, one pair, or all around one member."""
        one, other = self._link()
        around = self.random.choice([one, *self.cluster.leaders])
        cut = self.random.choice(
            (
                [(one, other)],
                [(one, other), (other, one)],
                [link for link in self.cluster.links if around in link],
                [link for link in self.cluster.links if around == link[0]],
            )
        )
        self.cluster.cut |= dict.fromkeys(cut, True)

    def mend(self) -> None:
        self.cluster.cut.clear()

    def stall(self) -> None:
        name = self.random.choice(self.cluster.leaders or self.cluster.names)
        self.cluster.nodes[name].stalled = True

    def go_on(self) -> None:
        self.slow.clear()
        for node in self.cluster.nodes.values():
            node.stalled = False

    def pause(self) -> None:
        self.slow[self.random.choice(self.cluster.leaders or self.cluster.names)] = True

    def behead(self) -> None:
        """A leader writes what at most one other gets, and is gone."""
        if not self.cluster.leaders:
            return
        name = self.random.choice(self.cluster.leaders)
        self.propose()
        self._work(name)
        others = [link for link in self.cluster.links if link[0] == name]
        spared = self.random.choice(others)
        for link in others:
            while self.cluster.links[link] and link != spared:
                self.cluster.drop(link)
        if self.random.random() < 0.5:
            self.cluster.crash(name, self.random.randrange(9))
        else:
            self.cluster.cut |= {link: True for link in self.cluster.links if name in link}

    def lose(self) -> None:
        link = self._link()
        packets = self.cluster.links[link]
        if not packets:
            return
        place = self.random.randrange(len(packets))
        self.random.choice((self.cluster.drop, self.cluster.deliver, self.cluster.duplicate))(link, place)

    def unreachable(self) -> None:
        one, other = self._link()
        if one in self.cluster.up:
            self.cluster.unreachable(one, other)

    def fill(self) -> None:
        """A disk runs full, or has room again."""
        if (name := self._one()) is not None:
            room = self.random.choice(list(Room))
            self.cluster.marks["disk full"] += room is Room.NONE
            self.cluster.nodes[name].core.know_room(room)

    # ----------------------------------------------------------------------------------------------------------- peace

    def heal(self) -> None:
        """All faults end: within a bound there is one leader, it commits, and all logs are the same."""
        self.mend()
        self.go_on()
        self.jitter = SETTINGS.election_ticks
        self.cluster.lazy = False
        for name in self.cluster.names:
            if name not in self.cluster.up:
                self.cluster.restart(name)
            self.cluster.nodes[name].core.know_room(Room.PLENTY)
        self._time(SETTINGS.election_ticks)  # Who leads may still give up for what happened before.
        leader = self._elected()
        self._time(2 * SETTINGS.election_ticks)
        assert self._elected() is leader, "in peace the lead stays where it is"
        made = self.cluster.propose(leader.name, b"peace")
        self.cluster.read(leader.name, "peace")
        self._time(4 * SETTINGS.heartbeat_ticks)
        assert self.cluster.checker.top == made.index
        members = leader.core.membership
        for node in (self.cluster.nodes[name] for name in members.nodes):
            assert node.core.leader == leader.name
            assert node.core.membership == members
            assert node.core.log.newest == made
            assert node.disk.durable.machine.applied.index >= made.index - 1
            assert node.core.log.applied == made.index

    def _elected(self) -> Node:
        """Who leads, once all agree."""
        for _ in range(10 * SETTINGS.election_ticks):
            leaders = self.cluster.leaders
            members = self.cluster.nodes[leaders[-1]].core.membership.nodes if leaders else ()
            follow = {self.cluster.nodes[name].core.leader for name in members}
            if len(leaders) == 1 and follow == {leaders[0]} and self.cluster.nodes[leaders[0]].core.may_propose:
                return self.cluster.nodes[leaders[0]]
            self._time(1)
        raise AssertionError("no leader in peace")

    def _time(self, ticks: int) -> None:
        """All clocks run, and all is delivered."""
        for _ in range(ticks):
            self.cluster.settle()
            self.all_tick()
        self.cluster.settle()


def test_any_schedule_is_safe_and_peace_brings_the_cluster_back(request: pytest.FixtureRequest) -> None:
    one, count = request.config.getoption("--seed"), request.config.getoption("--seeds")
    marks: Counter[str] = Counter()
    worlds: Counter[str] = Counter()
    for seed in [one] if one is not None else range(count * WORLDS_PER_SEED):
        schedule = Schedule(seed)
        try:
            found = schedule.run()
        except Exception as error:
            tail = "\n".join(schedule.cluster.trace[-40:])
            error.add_note(f"{tail}\nreplay: pytest {__file__} --seed {seed}")
            raise
        marks += found
        worlds.update(name for name in found if found[name])
    for mark in (*EACH_SEEN, "committed"):
        print(f"{mark}: {marks[mark]}, in {worlds[mark]} worlds")
    if one is None:
        missing = [mark for mark in EACH_SEEN if not marks[mark]]
        assert not missing, f"no schedule came to: {missing}"


def test_the_same_seed_gives_the_same_trace() -> None:
    one, other = Schedule(7), Schedule(7)
    one.run()
    other.run()
    assert one.cluster.trace == other.cluster.trace
