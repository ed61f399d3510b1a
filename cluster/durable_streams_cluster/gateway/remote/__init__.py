"""Streams that are elsewhere: ``api.Streams`` through the client SDK, for the stand-alone gateway."""
