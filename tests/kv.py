"""What tests ask a ``Kv`` that nothing else does."""

from durable_streams_cluster.storage.kv import Family, KvView


def has(kv: KvView, family: Family, key: bytes) -> bool:
    return kv.first_key(family, key, key + b"\0") == key
