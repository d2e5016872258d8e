"""What does a visitor of the bare address see? What this is, and where to read on."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

_PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>AI Movie Task Service</title>
<style>
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem }
</style>
<h1>AI Movie Task Service</h1>
<p>Send a video, image or audio generation task; get a signed webhook when it is done.</p>
<ul>
<li><a href="/api/v1/docs">How to call the API</a>, and its <a href="/api/v1/schema">schema</a></li>
<li><a href="/admin/">The operators' admin</a></li>
<li><a href="/api/v1/health/ready">Is the service ready?</a></li>
</ul>
</html>
"""


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Answer ``/``."""
    return HttpResponse(_PAGE)
