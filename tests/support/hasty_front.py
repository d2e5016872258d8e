"""Which web server do tests of the slowest rate use? The service's own, with a higher rate.

The kernel buffers some megabytes for a client that does not read. At this rate they do not count,
and a film still takes only seconds.
"""

# First: it sets Django up, which the other needs.
from moviesvc.wsgi import front  # noqa: F401 - named on the server's command line

from moviesvc import rsgi  # isort: skip

rsgi.SLOWEST_RATE = 6 << 20  # read when a file is asked for
