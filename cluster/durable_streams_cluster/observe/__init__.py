"""What the node says of itself: logs, metrics, health.

Read ``metrics`` (plain numbers that the shell counts up, read when somebody scrapes), then ``health`` (the ops
listener), then ``logs`` (set up once, by ``cli``). Nothing here is global: ``node`` makes one ``Metrics`` and hands it
out.
"""
