"""Old images of a disk are found out, and lawful lives are not taken for them."""

from random import Random

import pytest

from durable_streams_cluster.ids import Index, NodeId, Term
from durable_streams_cluster.raft import (
    NOTHING,
    AppendEntries,
    AppendReply,
    Begun,
    EntryId,
    Heartbeat,
    HeartbeatReply,
    Lives,
    Message,
    RequestVote,
    Settings,
    TimeoutNow,
    VoteReply,
)
from durable_streams_cluster.raft.lives import MAX_LIVES, MAX_REMEMBERED, NOTHING_SHOWN, Shown, has_forgotten, shown_by
from tests.raft.cluster import Cluster
from tests.raft.disk import Image

N1, N2, N3, N4, N5 = (NodeId(f"n{number}") for number in range(1, 6))
T2, T3, T4, I0 = Term(2), Term(3), Term(4), Index(0)


def begun(life: int, term: int, last: str) -> Begun:
    last_term, _, index = last.partition("/")
    return Begun(life, Term(term), EntryId(Term(int(last_term)), Index(int(index))))


def acknowledged(term: int, match: int) -> AppendReply:
    return AppendReply(Term(term), Index(match))


# --- What is shown, and what is forgotten.


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (AppendReply(T3, Index(7)), Shown(T3, Index(7))),
        (AppendReply(T3, Index(7), rejected=True), Shown(T3)),
        (Heartbeat(T3, Index(9), 0, 0, Index(8)), Shown(T3, Index(8))),
        (AppendEntries(T3, NOTHING, (), Index(9)), Shown(T3)),
        (TimeoutNow(T3), Shown(T3)),
        (RequestVote(T3, NOTHING), Shown(T3)),
        (VoteReply(T3, T3, granted=True), Shown(T3)),
        (VoteReply(T3, T3, granted=False), Shown(T3)),
        (RequestVote(T3, NOTHING, pre=True), NOTHING_SHOWN),
        (VoteReply(T3, T4, granted=True, pre=True), NOTHING_SHOWN),
        (HeartbeatReply(T3, 5), NOTHING_SHOWN),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_message_tells_of_a_disk(message: Message, shown: Shown) -> None:
    assert shown_by(message, own_entry=True) == shown


def test_an_entry_of_an_older_term_is_not_shown() -> None:
    """It may be cut by a leader of this term yet; what counts for a commit is behind the first one of the term."""
    assert shown_by(AppendReply(T3, Index(7)), own_entry=False) == Shown(T3)


@pytest.mark.parametrize(
    ("term", "last", "forgotten"),
    [
        (3, "3/7", False),
        (3, "3/8", False),
        (3, "3/6", True),
        (3, "2/9", True),
        (2, "2/9", True),
        (4, "3/5", False),
        (4, "2/1", False),
        (4, "4/5", False),
    ],
    ids=["all", "more", "less", "a tail that was cut", "an older term", "later", "cut by a later leader", "and grown"],
)
def test_what_has_forgotten_that_it_had_entry_7_of_term_3(term: int, last: str, *, forgotten: bool) -> None:
    assert has_forgotten(begun(1, term, last), Shown(T3, Index(7))) == forgotten


def test_a_term_alone_is_forgotten_by_an_older_one_only() -> None:
    assert has_forgotten(begun(1, 2, "2/9"), Shown(T3))
    assert not has_forgotten(begun(1, 3, "1/1"), Shown(T3))
    assert not has_forgotten(begun(1, 0, "0/0"), NOTHING_SHOWN)


# --- Lives.


def test_what_a_life_shows_is_held_against_the_next_and_not_against_itself() -> None:
    lives = Lives()
    first = begun(1, 3, "3/5")
    assert lives.objection(N3, 33, first) is None
    lives.heard(N3, acknowledged(3, 7), own_entry=True)
    assert lives.objection(N3, 33, first) is None, "another connection of the same process"
    assert lives.objection(N3, 33, begun(2, 3, "3/7")) is None
    assert lives.objection(N3, 33, begun(3, 3, "3/6")) == (
        "the data directory of n3 is an older image of itself: it had term 3 and its entry 7, and has begun with "
        "term 3 and entry 6 of term 3"
    )
    assert lives.objection(N3, 33, first) is None, "a greeting of the first that was long under way"


def test_a_life_is_judged_once_whatever_it_learns_later() -> None:
    lives = Lives()
    lives.objection(N3, 33, begun(1, 3, "3/5"))
    lives.heard(N3, acknowledged(3, 7), own_entry=True)
    old = begun(2, 2, "2/2")
    said = lives.objection(N3, 33, old)
    assert said is not None
    assert "it had term 3 and its entry 7, and has begun with term 2 and entry 2 of term 2" in said
    lives.heard(N3, acknowledged(4, 9), own_entry=True)
    assert lives.objection(N3, 33, old) == said


def test_the_newest_is_what_counts_in_whatever_order_it_comes() -> None:
    lives = Lives()
    lives.objection(N3, 33, begun(1, 0, "0/0"))
    for term, match in ((3, 7), (2, 99), (3, 5)):
        lives.heard(N3, acknowledged(term, match), own_entry=True)
    assert lives.objection(N3, 33, begun(2, 3, "3/7")) is None
    assert lives.objection(N3, 33, begun(3, 3, "3/6")) is not None


def test_another_directory_has_nothing_to_forget() -> None:
    lives = Lives()
    lives.objection(N3, 33, begun(1, 3, "3/5"))
    lives.heard(N3, acknowledged(3, 7), own_entry=True)
    assert lives.objection(N3, 34, begun(2, 0, "0/0")) is None
    assert lives.objection(N2, 33, begun(3, 0, "0/0")) is None


def test_memory_is_bounded() -> None:
    lives = Lives()
    for number in range(MAX_REMEMBERED + 1):
        lives.objection(NodeId(f"m{number}"), 1, begun(1, 0, "0/0"))
        lives.heard(NodeId(f"m{number}"), acknowledged(3, 7), own_entry=True)
    assert lives.objection(NodeId("m0"), 1, begun(2, 0, "0/0")) is None, "the oldest is forgotten"
    assert lives.objection(NodeId(f"m{MAX_REMEMBERED}"), 1, begun(2, 0, "0/0")) is not None
    for life in range(10, 10 + MAX_LIVES):
        assert lives.objection(NodeId(f"m{MAX_REMEMBERED}"), 1, begun(life, 3, "3/7")) is None
    assert lives.objection(NodeId(f"m{MAX_REMEMBERED}"), 1, begun(2, 3, "3/7")) is None, "its verdict was forgotten"


# --- Cores that greet each other.


def cluster(size: int, seed: int = 1) -> Cluster:
    random = Random(seed)
    settings = Settings(heartbeat_ticks=2, election_ticks=8, stall_ticks=14)
    return Cluster(size, settings, lambda _, below: random.randrange(below))


def time(world: Cluster, ticks: int) -> None:
    for _ in range(ticks):
        for name in world.up:
            world.tick(name)
        world.settle()


def leading(world: Cluster, name: NodeId) -> None:
    """Let ``name`` lead."""
    for _ in range(20):
        time(world, 8)
        if world.leaders == [name]:
            return
        if len(world.leaders) == 1:
            world.transfer(world.leaders[0], name)
    raise AssertionError(f"{name} never leads")


def image_of(world: Cluster, name: NodeId) -> Image:
    return world.nodes[name].disk.durable.copy()


def test_a_follower_that_forgot_what_it_acknowledged_is_refused_by_the_leader() -> None:
    world = cluster(3)
    leading(world, N1)
    image = image_of(world, N3)
    world.propose(N1, b"acknowledged")
    time(world, 4)
    world.crash(N3)
    assert list(world.put_back(N3, image)) == [N1], "n2 has never heard how far n3 is"


def test_a_leader_that_forgot_what_it_counted_is_refused_by_all() -> None:
    world = cluster(3)
    leading(world, N1)
    image = image_of(world, N1)
    world.propose(N1, b"counted")
    time(world, 4)
    world.crash(N1)
    assert list(world.put_back(N1, image)) == [N2, N3]


def test_a_former_leader_remembers() -> None:
    world = cluster(3)
    leading(world, N1)
    image = image_of(world, N3)
    world.propose(N1, b"acknowledged")
    time(world, 4)
    world.crash(N3)
    world.transfer(N1, N2)
    time(world, 8)
    assert world.leaders == [N2]
    assert list(world.put_back(N3, image)) == [N1]


def test_a_term_that_was_forgotten_is_enough() -> None:
    world = cluster(3)
    leading(world, N1)
    image = image_of(world, N3)
    leading(world, N2)
    world.crash(N3)
    assert N2 in world.put_back(N3, image)


def test_who_was_restarted_meanwhile_remembers_nothing() -> None:
    world = cluster(3)
    leading(world, N1)
    image = image_of(world, N3)
    world.propose(N1, b"acknowledged")
    time(world, 4)
    for name in (N3, N2, N1):
        world.crash(name)
    world.restart(N1)
    world.restart(N2)
    assert world.put_back(N3, image) == {}


def test_an_image_that_holds_all_that_was_shown_is_no_other_than_a_restart() -> None:
    world = cluster(3)
    leading(world, N1)
    world.propose(N1, b"acknowledged")
    time(world, 4)
    image = image_of(world, N3)
    world.crash(N3)
    assert world.put_back(N3, image) == {}


def test_a_follower_whose_log_a_later_leader_cut_is_not_refused_by_the_earlier_one() -> None:
    """The counter-example of ``raft.lives``: n1 slept while it happened, and knows of more than n3 has now."""
    world = cluster(5)
    leading(world, N1)
    world.cut |= {link: True for link in world.links if N1 in link and N3 not in link}
    for number in range(3):
        world.propose(N1, b"%d" % number)
    world.settle()
    acknowledged = world.nodes[N1].core.status().followers[N3].match
    assert acknowledged == world.nodes[N3].core.log.last
    world.cut |= {link: True for link in world.links if N1 in link}
    while world.leaders[-1] == N1:
        for name in (N2, N4, N5):
            world.tick(name)
        world.settle()
    for _ in range(8):
        world.tick(world.leaders[-1])
        world.settle()
    assert world.nodes[N3].core.log.last < acknowledged
    world.crash(N3)
    world.restart(N3)
    assert world.nodes[N1].core.term < world.nodes[N3].begun.term


# --- Any history.


class History:
    """A cluster that writes while members are killed, leaders change, and disks of a minority are put back."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.world = cluster(self.random.choice((3, 3, 5)), seed)
        self.images: dict[NodeId, list[Image]] = {name: [] for name in self.world.names}
        self.forgot: list[NodeId] = []
        """Whose disk has been put back, and was refused: it never comes back under its name."""
        self.accepted = 0

    def run(self) -> None:
        time(self.world, 30)
        for _ in range(60):
            action = self.random.choice((self.write, self.write, self.copy, self.restart, self.elect, self.put_back))
            action()
        self.write()

    def write(self) -> None:
        for _ in range(40):
            time(self.world, self.random.randrange(1, 6))
            leaders = [name for name in self.world.leaders if self.world.nodes[name].core.may_propose]
            if leaders:
                for _ in range(self.random.randrange(1, 4)):
                    self.world.propose(leaders[-1], b"entry")
                time(self.world, 6)
                return
        raise AssertionError("no leader")

    def copy(self) -> None:
        """Also in the midst of something: of what is durable then."""
        name = self.random.choice(self.world.up)
        for other in self.world.up:
            if self.random.random() < 0.3:
                self.world.tick(other)
        self.images[name].append(image_of(self.world, name))

    def restart(self) -> None:
        """Killed, some writes lost with the power, and started: no process that remembers less, but this one's own."""
        name = self.random.choice(self.world.up)
        self.world.crash(name, self.random.randrange(4))
        if self.random.random() < 0.5:
            time(self.world, self.random.randrange(40))
        self._forget_images()
        self.world.restart(name)

    def _forget_images(self) -> None:
        """A process has ended, and what it remembered is gone: see ``test_who_was_restarted``."""
        for images in self.images.values():
            images.clear()

    def elect(self) -> None:
        for leader in self.world.leaders:
            others = [name for name in self.world.up if name != leader]
            if others and self.world.nodes[leader].core.may_propose:
                self.world.transfer(leader, self.random.choice(others))
        time(self.world, self.random.randrange(12))

    def put_back(self) -> None:
        """At most a minority's, all told; those that were refused are out, as their own processes see to."""
        names = [name for name in self.world.up if self.images[name]]
        if not names or 2 * (len(self.forgot) + 1) >= len(self.world.names):
            return
        name, world = self.random.choice(names), self.world
        time(world, 8)  # What it holds is heard of.
        before = world.nodes[name].disk.durable
        held = [index for index, term in world.checker.chosen.items() if before.holds(EntryId(term, index))]
        promised = before.hard_state.term
        world.crash(name)
        if self.random.random() < 0.5:
            time(world, self.random.randrange(40))
        image = self.random.choice(self.images[name])
        refused = world.put_back(name, image)
        lacks = [index for index in held if not image.holds(EntryId(world.checker.chosen[index], index))]
        assert refused or not lacks, f"nobody noticed that {name} forgot {lacks}"
        assert refused or image.hard_state.term == promised, f"nobody noticed that {name} forgot term {promised}"
        if refused:
            world.crash(name)
            self.forgot.append(name)
        else:
            self.accepted += 1
        self._forget_images()


def test_images_of_a_minority_are_found_out_whenever_they_lack_anything(request: pytest.FixtureRequest) -> None:
    one, count = request.config.getoption("--seed"), request.config.getoption("--seeds")
    forgot = accepted = 0
    for seed in [one] if one is not None else range(2 * count):
        history = History(seed)
        try:
            history.run()
        except Exception as error:
            error.add_note("\n".join([*history.world.trace[-40:], f"replay: pytest {__file__} --seed {seed}"]))
            raise
        forgot += len(history.forgot)
        accepted += history.accepted
    print(f"{forgot} images were refused, {accepted} lacked nothing")
    assert one is not None or forgot
