"""What can go wrong, as exceptions that say what may be done about it.

::

    DurableStreamError
    ├── BadRequestError                               it breaks a rule: ``field`` says where
    │   ├── InvalidJsonError                          the body is not JSON, or an empty array
    │   └── TooLargeError                             more than one append may have
    ├── StreamNotFoundError                           no stream is there
    │   └── StreamDeletedError                        it was deleted, and forks still need its data
    ├── StreamExistsError                             another one is there than was to be created
    ├── StreamClosedError                             it takes no more appends
    ├── ContentTypeMismatchError                      the stream holds another type
    ├── SeqConflictError                              ``stream_seq`` does not grow
    ├── OffsetMismatchError                           the stream does not end at ``if_match``
    ├── StreamFullError                               it holds as much as it may
    ├── TooManyProducersError                         it remembers as many as it may
    ├── ProducerFencedError                           a newer epoch of this producer wrote
    ├── SequenceGapError                              a batch is missing before this one
    ├── ForkSourceError                               what was to be forked is not there, or was deleted
    ├── RetentionGoneError                            the offset's data is no longer kept
    ├── AuthenticationError                           the token is missing, or not believed
    ├── PermissionDeniedError                         the token does not allow this
    ├── OverloadedError             retryable         too much is under way
    │   └── StorageFullError        retryable         the disks are almost full
    ├── UnavailableError            retryable         nobody answers, or nobody leads
    ├── OutcomeUnknownError         maybe_applied     it may or may not have happened
    └── ClientClosedError                             the client was closed, or belongs to another process

``retryable``: the same call may succeed later, and it certainly did not happen. ``maybe_applied``: it may have
happened, so that trying again may do it twice; a ``Producer`` makes that safe. Neither: somebody has to change
something. Of a producer's batch, or whatever else may be sent twice, both may change: when the answer to the first
sending was lost, a refusal of the second says nothing of the first, and has ``maybe_applied``.
"""

from typing import Self


class DurableStreamError(Exception):
    """The root of all errors of this package."""

    code = "error"
    """In words of the protocol's ``error.code``; the same over gRPC and HTTP."""
    retryable = False
    maybe_applied = False
    resent = False
    """It is the answer to a request that was sent before, and nobody knows what came of that: it may have happened."""

    def after_another(self) -> Self:
        """The same, of a request that was sent before: stored then, perhaps, and refused now."""
        self.resent = self.maybe_applied = True
        self.retryable = False
        return self


class BadRequestError(DurableStreamError):
    """It breaks a rule; ``field`` names what is wrong. The ``code`` is ``path_too_long`` where it is that."""

    code = "bad_request"

    def __init__(self, message: str, field: str = "", code: str = "") -> None:
        super().__init__(message)
        self.field = field
        if code:
            self.code = code


class InvalidJsonError(BadRequestError):
    """The body of an append to a JSON stream is not JSON, or an empty array."""

    code = "invalid_json"


class TooLargeError(BadRequestError):
    """The body has more bytes than one append may have."""

    code = "too_large"


class StreamNotFoundError(DurableStreamError):
    """No stream is at this path."""

    code = "not_found"


class StreamDeletedError(StreamNotFoundError):
    """The stream was deleted; its forks still need its data, so nothing else can be created there."""

    code = "deleted"


class StreamExistsError(DurableStreamError):
    """Another stream is there than was to be created; ``field`` names the first difference."""

    code = "config_mismatch"

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class _AtOffset(DurableStreamError):
    def __init__(self, message: str, offset: str = "") -> None:
        super().__init__(message)
        self.offset = offset


class StreamClosedError(_AtOffset):
    """The stream takes no more appends; it ends at ``offset``."""

    code = "stream_closed"


class ContentTypeMismatchError(DurableStreamError):
    """The stream holds ``content_type``."""

    code = "content_type_mismatch"

    def __init__(self, message: str, content_type: str = "") -> None:
        super().__init__(message)
        self.content_type = content_type


class SeqConflictError(DurableStreamError):
    """``stream_seq`` is not above ``last``, that of an earlier append (empty over HTTP)."""

    code = "sequence_regression"

    def __init__(self, message: str, last: bytes = b"") -> None:
        super().__init__(message)
        self.last = last


class OffsetMismatchError(_AtOffset):
    """The stream does not end at ``if_match``, but at ``offset``."""

    code = "offset_mismatch"


class StreamFullError(DurableStreamError):
    """The stream would hold more than ``max_bytes``."""

    code = "stream_full"

    def __init__(self, message: str, max_bytes: int = 0) -> None:
        super().__init__(message)
        self.max_bytes = max_bytes


class TooManyProducersError(DurableStreamError):
    """The stream remembers as many producers as it may, ``most``: use an id that has written to it."""

    code = "too_many_producers"

    def __init__(self, message: str, most: int = 0) -> None:
        super().__init__(message)
        self.most = most


class ProducerFencedError(DurableStreamError):
    """A newer ``epoch`` of this producer has written: another process took over."""

    code = "producer_fenced"

    def __init__(self, message: str, epoch: int = 0) -> None:
        super().__init__(message)
        self.epoch = epoch


class SequenceGapError(DurableStreamError):
    """Batch ``expected_seq`` comes before ``received_seq``, the one that was sent.

    ``epoch`` is the new one whose first batch this would have been, if it is about that, and else 0.
    """

    code = "sequence_gap"

    def __init__(self, message: str, expected_seq: int = 0, received_seq: int = 0, epoch: int = 0) -> None:
        super().__init__(message)
        self.expected_seq = expected_seq
        self.received_seq = received_seq
        self.epoch = epoch


class ForkSourceError(DurableStreamError):
    """What was to be forked is not there, or was deleted (``code``: ``source_not_found`` or ``source_deleted``)."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class RetentionGoneError(_AtOffset):
    """The data at this offset is no longer kept, or was another stream's; what is kept begins at ``offset``."""

    code = "offset_gone"


class AuthenticationError(DurableStreamError):
    """The token is missing, has expired, or is not believed."""

    code = "unauthenticated"


class PermissionDeniedError(DurableStreamError):
    """The token does not allow this."""

    code = "permission_denied"


class OverloadedError(DurableStreamError):
    """Too much is under way, and nothing was stored; come back after ``retry_after_s`` (seconds)."""

    code = "overloaded"
    retryable = True

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageFullError(OverloadedError):
    """The disks of the cluster are almost full; nothing was stored. Deleting makes room."""

    code = "storage_full"


class UnavailableError(DurableStreamError):
    """Nobody answers, or the cluster has no leader; nothing was stored. The message says what to look at."""

    code = "unavailable"
    retryable = True


class OutcomeUnknownError(DurableStreamError):
    """It may or may not have happened: look, or use a ``Producer``, which may send again."""

    code = "outcome_unknown"
    maybe_applied = True


class ClientClosedError(DurableStreamError):
    """The client was closed, or was made by another process: see ``Client``."""

    code = "closed"
