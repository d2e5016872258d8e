"""What does an operator see and do about tasks and keys? One module per page."""

from contextlib import suppress

from django.contrib import admin
from django.contrib.admin.exceptions import NotRegistered
from django_dramatiq.models import Task as DramatiqTask
from rest_framework_api_key.models import APIKey as LibraryApiKey

from tasks_app.admin import (
    api_keys,
    assets,
    costs,
    operators,
    remote_jobs,
    remote_servers,
    tasks,
)

__all__ = [
    "api_keys",
    "assets",
    "costs",
    "dashboard",
    "operators",
    "remote_jobs",
    "remote_servers",
    "tasks",
]

# The libraries' own "Tasks" and "API keys" would only confuse: both tables stay empty.
for _unused in (DramatiqTask, LibraryApiKey):
    with suppress(NotRegistered):
        admin.site.unregister(_unused)
