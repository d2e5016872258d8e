"""What can be done with webhooks in the shop? All of it, once; what was seen is printed as JSON.

Run beside `manage.py deliver_webhooks`: ``python story.py <URL of a receiver>``.
"""

import gc
import io
import json
import logging
import os
import re
import sys
import time

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.staticfiles import finders  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402
from orders import ship  # noqa: E402

from webhooks_app import urls  # noqa: E402
from webhooks_app.models import WebhookMessage  # noqa: E402

API = "/shop/api/webhooks"
books = Client(headers={"authorization": "Bearer token-of-books"})
looker = Client(headers={"authorization": "Bearer to-look"})
stranger = Client()
seen = {}


def wait_for(status):
    """Wait until every message has ended in this way."""
    end = time.monotonic() + 30
    while WebhookMessage.objects.exclude(status=status).exists() and time.monotonic() < end:
        time.sleep(0.02)
    return list(WebhookMessage.objects.values_list("status", flat=True))


def command(name, *arguments):
    """Run a command and return what it printed; its exit code where it is not 0."""
    output = io.StringIO()
    try:
        call_command(name, *arguments, stdout=output)
    except SystemExit as ended:
        output.write("" if not ended.code else f"exit {ended.code}")
    return output.getvalue()


def post(path, body=None):
    """Send JSON and return the status, the Location, and the answer."""
    answer = books.post(API + path, json.dumps(body or {}), content_type="application/json")
    return answer.status_code, answer.headers.get("Location", ""), answer.json()


seen["secret"] = books.get(f"{API}/signing-secret?project_id=books").json()["secret"]
seen["event_id"] = ship("order-1", sys.argv[1])
seen["delivered"] = wait_for("delivered")
key = WebhookMessage.objects.get().pk
endpoint = post("/endpoints", {"url": sys.argv[1] + "sub", "event_types": ["order.paid"]})
seen["endpoint"] = endpoint[:2]
seen["unknown type"] = post("/endpoints", {"url": sys.argv[1], "event_types": ["task.done"]})
seen["replayed"] = command(
    "replay_webhooks", "--status", "delivered", "--yes", "--wait", "--reason=a test"
)
replay = post(f"/messages/{key}/replay", {"reason": "a try"})
door = {"name": "door", "kind": "bearer", "origins": ["https://a.example.org"], "token": "secret"}
credential = post("/credentials", door)
seen["replay"] = replay[:2]
seen["locations"] = [books.get(place).status_code for _, place, _ in (endpoint, replay, credential)]
wait_for("delivered")

# The API: every page, and the same for who may only look, and for a stranger.
place = books.get("/shop/api/webhooks/destinations").json()["results"][0]["id"]
ids = {
    "message_id": key,
    "replay_id": replay[2]["id"],
    "endpoint_id": endpoint[2]["id"],
    "credential_id": credential[2]["id"],
    "destination_id": place,
}
pages = [
    "/shop/api/" + re.sub(r"<str:(\w+)>", lambda name: str(ids[name[1]]), str(pattern.pattern))
    for pattern in urls.urlpatterns
    if hasattr(pattern.callback.cls, "get")
]
seen["pages"] = {page: books.get(page).status_code for page in pages}
seen["pages of who looks"] = {page: looker.get(page).status_code for page in pages}
seen["pages of a stranger"] = {page: stranger.get(page).status_code for page in pages}
seen["next"] = books.get(f"{API}/deliveries?limit=1").json()["next"]
seen["keys"] = stranger.get("/.well-known/webhooks-jwks.json").json()
seen["payload"] = books.get(f"{API}/messages/{key}").json()["payload"]
seen["events"] = books.get(f"{API}/events").json()["results"][0]["payload"]

# The admin: Django's own first page, every list, every page of a row, every operation.
get_user_model().objects.create_superuser("root", password="root")
root = Client()
root.login(username="root", password="root")
index = root.get("/admin/").content.decode()
seen["index"] = [text for text in ("Site administration", "mv-page") if text in index]
lists = sorted(set(re.findall(r'"(/admin/webhooks_app/\w+/)"', index)))
to_visit, visited = list(lists), {}
while to_visit:
    page = to_visit.pop()
    answer = root.get(page)
    visited[page] = answer.status_code
    text = answer.content.decode() if answer.headers["Content-Type"].startswith("text") else ""
    for link in re.findall(r'(?:href|src)="([^"#]*)"', text):
        if link.startswith("/static/"):
            visited[link] = 200 if finders.find(link.removeprefix("/static/")) else 404
        link = page.removesuffix("change/") + link[3:] if link.startswith("../do/") else link
        is_new = link not in {*visited, *to_visit}
        if link.startswith("/admin/webhooks_app/") and "?" not in link and is_new:
            to_visit.append(link)
    for live in re.findall(r'data-live-url="([^"]+)"', text):
        to_visit.append(live)
seen["lists"], seen["admin"] = lists, visited

seen["pruned"] = command("prune_webhooks", "--days", "0", "--reason", "a test", "--yes")
seen["left"] = WebhookMessage.objects.count()
seen["collector"] = [gc.isenabled(), gc.get_freeze_count(), gc.get_threshold()]
seen["handlers"] = len(logging.getLogger().handlers)
sys.stdout.write("\n" + json.dumps(seen))
