"""Fuzzing: everything that reads bytes it did not write, given bytes that nobody would.

A *target* (``engine.Target``, the table is in ``targets``) is one surface and what must hold of it. Its ``check`` takes
any bytes and asserts properties, not only that nothing is raised: what is accepted obeys the bounds and can be stored,
what is refused is refused with the documented error, what was encoded comes back, and where there is a second opinion
(Python's ``json``, h11, a calendar by hand, a reader written from the specification) the two agree.

====================  ==================================================================================
module                targets
====================  ==================================================================================
``requests``          append, create, read, list, headers, paths, caching: the pure HTTP decoders
``wire``              wire, splits, ops: a whole connection in simulated time, down to an in-memory store
``simulated``         the socket, the clock and the node, for ``wire``
``responses``         the strict reader of what the server sends, for ``wire``
``json_text``         json, json_pieces: JSON mode against Python's parser
``events``            sse: server-sent events, read back
``stored``            values, damage, sealed, keys: what is in the database
``files``             wal, durable_turn, turn_keys, format: what is beside it
``configuration``     config, settings: flags, environment, TOML
====================  ==================================================================================

Two ways to run them. ``test_targets`` (in ``make unit``) tries the corpus and some thousand seeded mutations of it, the
same each time. ``make fuzz MINUTES=60`` or ``INPUTS=10000000`` is a campaign: coverage-guided by atheris (libFuzzer for
Python), or with the same seeded mutations where there is no atheris; ``ARGS="wire json"`` picks targets. It keeps its
corpus in ``.cache/fuzz``. What breaks a target is printed as a test to paste. ``ARGS=--keep`` then puts the smallest
inputs that reach every line reached into ``corpus/``, one escaped line each, for the next campaign and the unit tests.

A finding becomes a named test beside the tests of the module at fault, which is seen to fail, and then is fixed.
"""
