"""`python -m tasks_app.providers.previz`: render one job read from stdin."""

from tasks_app.providers.previz.child import main

main()
