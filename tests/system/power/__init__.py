"""Power loss for real processes: a shim that keeps a journal of the disk, and a cut that drops what was not synced."""
