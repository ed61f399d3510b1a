"""A cluster on this machine: what is planned, shown, and done with processes."""
