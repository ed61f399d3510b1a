"""The HTTP chapter: requests and responses as values, and the two loops that wait.

Pure, in the order of a request: ``paths`` (which stream), ``headers`` (strict parsers), ``codec`` (request to command
or read), ``status`` (outcome to response), ``caching`` (ETag, Cache-Control, cursor), ``sse`` (frames). ``app`` is the
ASGI application: it decodes, calls ``api.Streams``, encodes, and waits for long-polls and SSE. ``serve`` binds it to
the HTTP server and is the only module that knows which one.
"""
