"""What does a visitor of ``/`` see? What this service is, and where its documentation is."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

_PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>AI Movie Task Service</title>
<link rel="icon" type="image/svg+xml" href="/static/webhooks_app/icon.svg">
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #7c3aed }
@media (prefers-color-scheme: dark) { :root { --accent: #b794ff } }
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 46rem; margin: 12vh auto;
    padding: 0 1.5rem }
h1 { font-size: 2.1rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 }
.lead { font-size: 1.15rem; max-width: 34rem; opacity: .8; margin: .8rem 0 2rem }
ol { display: flex; flex-wrap: wrap; gap: .5rem 2rem; list-style: none; padding: 0;
    margin: 0 0 2rem }
ol b { color: var(--accent); margin-right: .4rem }
nav { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem }
a { display: block; padding: 1rem 1.2rem; border: 1px solid var(--line); border-radius: .7rem;
    color: inherit; text-decoration: none }
a:hover, a:focus-visible { border-color: var(--accent); background: var(--soft) }
a strong { display: block; color: var(--accent) }
a span { font-size: .9rem; opacity: .75 }
</style>
<h1>AI Movie Task Service</h1>
<p class="lead">Send a video, image or audio generation task; get a signed webhook when it is done.
No webhook is lost, and every attempt to send it is on record.</p>
<ol><li><b>1</b>POST a task</li><li><b>2</b>it is made</li><li><b>3</b>you get a webhook</li></ol>
<nav>
<a href="/api/v1/docs"><strong>API</strong><span>Every call, to read and to try</span></a>
<a href="/api/v1/schema"><strong>Schema</strong><span>OpenAPI 3.1, webhooks included</span></a>
<a href="/admin/"><strong>Admin</strong><span>For operators: see, understand, replay</span></a>
<a href="/api/v1/health/ready"><strong>Ready?</strong><span>Whether tasks are taken now</span></a>
</nav>
</html>
"""


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_PAGE)
