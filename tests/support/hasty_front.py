"""Which web server do tests of the slowest rate use? The service's own, with a higher rate.

The kernel buffers some megabytes for a client that does not read. At this rate they do not count,
and a film still takes only seconds.
"""

from moviesvc import rsgi

rsgi.SLOWEST_RATE = 6 << 20

from moviesvc.wsgi import front  # noqa: E402, F401 - the rate is read when a file is asked for
