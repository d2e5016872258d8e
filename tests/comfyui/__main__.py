"""Is this pool of ComfyUI servers fit? Workflows without weights, through the whole service.

``COMFYUI_URLS=gpu-a=http://10.1.2.3:8188,gpu-b=... python -m tests.comfyui`` starts the service in
``var/comfyui``, submits tasks over its API, and receives their webhooks. Nothing is installed, here
or there. Where a server is to die, it says which and when: kill it, and it notices.

``ONLY=still,film`` names steps; ``LOAD=4`` makes the long workflow longer, for quick machines.
The exit code is 1 when a step failed.
"""

from __future__ import annotations

import os
import sys

from tests.comfyui import pool, steps


def main() -> int:
    """Run the steps; return the exit code."""
    if not os.environ.get("COMFYUI_URLS"):
        print(__doc__)
        return 2
    wanted = [name for name in os.environ.get("ONLY", "").split(",") if name]
    failed = []
    with pool.service() as running:
        for name, step in steps.STEPS.items():
            if wanted and name not in wanted:
                continue
            running.say(f"--    {name}: {(step.__doc__ or '').strip()}")
            try:
                step(running)
            except Exception as error:  # the edge: whatever it is, the next step is tried
                failed.append(name)
                running.say(f"FAIL  {name}: {error}")
            else:
                running.say(f"ok    {name}")
    running.say(f"{len(failed)} failed: {', '.join(failed)}" if failed else "The pool is fit.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
