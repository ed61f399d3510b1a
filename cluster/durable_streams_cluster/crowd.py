"""What readers that do not read may cost in all. A slow reader costs what it was sent and has not taken.

Under pressure pages get small: they fit into the socket's buffer, and honest readers only ask more often. What cannot
be small, one large append, is refused, and readers that take nothing are cut off (``connection``).
"""

from collections.abc import Callable

from durable_streams_cluster.api import Page
from durable_streams_cluster.errors import Overloaded
from durable_streams_cluster.limits import Limits


class Crowd:
    """Decides on responses by the bytes that connections hold unsent; whoever counts them sets ``unsent_bytes``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.unsent_bytes: Callable[[], int] = lambda: 0

    @property
    def is_pressed(self) -> bool:
        """Whether so much is unsent that who takes nothing must go."""
        return self.unsent_bytes() >= self._limits.max_unsent_bytes // 2

    def page_bytes(self) -> int | None:
        """Bytes of a page to ask for; None: as many as usual."""
        return self._limits.pressed_read_bytes if self.is_pressed else None

    def page_of_at_most(self, asked: int) -> int | None:
        """The same for a reader that asks for so many; 0: as many as usual."""
        return min(filter(None, (asked, self.page_bytes())), default=None)

    def has_room(self, page: Page) -> bool:
        """Whether a page may be sent now; a small one always may, and any one while nothing else is unsent."""
        unsent = self.unsent_bytes()
        if unsent < self._limits.max_unsent_bytes // 2:
            return True
        size = page.size
        return size <= self._limits.pressed_read_bytes or unsent + size <= self._limits.max_unsent_bytes

    def admit(self, page: Page) -> Page:
        """The page, if it may be sent now.

        Raises:
            Overloaded: it may not.

        """
        if not self.has_room(page):
            raise Overloaded("too much was sent to readers that have not taken it yet; read again later")
        return page
