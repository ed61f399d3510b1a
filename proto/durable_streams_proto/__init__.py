"""Wire formats of the gRPC services, generated beside their .proto files; nothing written by hand lives below.

What is stored on disk is not here: ``durable_streams_cluster.storage.codecs``.
"""
