"""Removes what other install epochs left behind: the state before a snapshot, or one that never arrived whole."""

from durable_streams_cluster.storage import codecs, keys
from durable_streams_cluster.storage.dropping import drop_stream
from durable_streams_cluster.storage.kv import Family, KvView, WriteBatch

_DATA = Family.DATA


class Sweep:
    """One walk over the state, in slices. What is written under other epochs while it walks, another walk finds."""

    def __init__(self, kv: KvView) -> None:
        self._kv = kv
        self._at = b""

    def slice(self, batch: WriteBatch, keep: frozenset[int], max_keys: int) -> bool:
        """Look at up to ``max_keys`` keys, and delete those under an epoch that is not one of ``keep``.

        Returns:
            Whether this was the last slice.

        """
        looked = 0
        while looked < max_keys:
            for key, value in self._kv.scan(_DATA, self._at, b"\xff"):
                looked += 1
                self._at = key + b"\0"
                if self._look(batch, keep, key, value) or looked >= max_keys:
                    break
            else:
                return True
        return False

    def _look(self, batch: WriteBatch, keep: frozenset[int], key: bytes, value: bytes) -> bool:
        """Delete what is there, if it is to go; whether the walk goes on somewhere further behind."""
        epoch = keys.epoch_of(key)
        if epoch is None:
            return False
        if epoch in keep:
            if key[:1] != b"S":
                return False
            self._at = keys.slot_end(key)
            return True
        ref = keys.meta_ref(key)
        if ref is None:
            batch.delete(_DATA, key)
            return False
        drop_stream(self._kv, batch, epoch, ref, codecs.decode_meta(value))
        self._at = keys.stream_range(ref.slot, epoch, ref.id)[1]
        return True
