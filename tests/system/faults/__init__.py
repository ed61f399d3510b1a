"""Faults of disk, machine and operator, injected into a real node under load; see ``__main__`` and ``kinds``."""
