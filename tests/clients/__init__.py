"""The official clients, unmodified, against our server."""
