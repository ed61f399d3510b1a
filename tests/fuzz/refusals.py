"""What every refusal must be."""


def told(error: Exception, *needed: str, most: int = 100_000) -> None:
    """The message says what is ``needed`` to act on it, and does not repeat all of a long input."""
    message = str(error)
    assert message
    assert len(message) <= most
    for part in needed:
        assert part in message, message
