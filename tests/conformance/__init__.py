"""The official conformance suite of the protocol, run unmodified."""
