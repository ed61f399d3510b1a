"""The protocol's rules, without HTTP, disk or clock."""
