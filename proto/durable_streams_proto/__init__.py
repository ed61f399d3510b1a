"""Wire formats of the gRPC services, generated beside their .proto files by ``proto/generate.py``, and checked in.

What is stored on disk is not here: ``durable_streams_cluster.storage.codecs``.
"""
