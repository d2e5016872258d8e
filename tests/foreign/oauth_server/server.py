"""An OAuth 2 server of django-oauth-toolkit, as its own documentation sets it up.

python server.py <port> <folder>: makes one confidential client, ``us``, whose secret is in the
environment, and serves until it is stopped. Also an API that asks the toolkit about each token.
"""

import os
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings

settings.configure(
    DEBUG=False,
    SECRET_KEY="of these tests alone",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="server",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{sys.argv[2]}/oauth.db"}
    },
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
        "SCOPES": {"hooks": "deliver webhooks", "other": "something else"},
    },
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from oauth2_provider.decorators import protected_resource  # noqa: E402
from oauth2_provider.models import AccessToken, Application  # noqa: E402


@csrf_exempt
@protected_resource(scopes=["hooks"])
def hook(request):
    """What the toolkit guards: 403 without a token that lives and has the scope."""
    return HttpResponse(status=204)


@csrf_exempt
def guarded(request):
    """The same with the 401 that RFC 6750 asks for where a token is not valid."""
    answer = hook(request)
    if answer.status_code == 403:
        return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
    return answer


@csrf_exempt
def revoke(request):
    """Revoke every token, as an administrator does."""
    return HttpResponse(str(AccessToken.objects.all().delete()[0]))


def count(request):
    return HttpResponse(str(AccessToken.objects.count()))


urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("hook", guarded),
    path("revoke", revoke),
    path("count", count),
]


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        """Log nothing."""


if __name__ == "__main__":
    sys.modules["server"] = sys.modules["__main__"]
    call_command("migrate", verbosity=0)
    Application.objects.create(
        client_id="us",
        client_secret=os.environ["CLIENT_SECRET"],
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
        name="us",
    )
    application = get_wsgi_application()
    make_server("127.0.0.1", int(sys.argv[1]), application, handler_class=Quiet).serve_forever()
