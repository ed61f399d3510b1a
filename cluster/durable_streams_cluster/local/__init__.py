"""A cluster on this machine, for people who try it: several ``serve`` processes under one (``cluster up``).

``plan`` says which nodes there are and what each is told, ``children`` starts, watches and ends them, ``probe`` asks
who leads, and ``screen`` is what the terminal shows. The edges of the process (arguments, signals) are in ``cli_up``.
"""
