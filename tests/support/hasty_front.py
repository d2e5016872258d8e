"""What does a web server call whose slowest rate a test can fall below? The service's own front.

The kernel takes some megabytes on behalf of a client that does not read; so the rate is one at
which these do not count, and a film still takes seconds only.
"""

from moviesvc import rsgi

rsgi.SLOWEST_RATE = 6 << 20

from moviesvc.wsgi import front  # noqa: E402, F401 - the rate is read when a file is asked for
