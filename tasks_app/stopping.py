"""Is this worker process on its way out? One flag, set by the middleware, read by the runner."""

import threading

stopping = threading.Event()
