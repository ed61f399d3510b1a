"""The whole system, from outside: a browser, kill -9 and whatever else takes a real machine."""
