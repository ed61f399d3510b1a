"""The official clients, unmodified, against our server; and our SDK against the official one."""
