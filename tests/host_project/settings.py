"""How is the shop configured? As Django's own start-up template has it, and with webhooks."""

import os

SECRET_KEY = "of the shop"
ALLOWED_HOSTS = ["testserver", "localhost"]
ROOT_URLCONF = "urls"
STATIC_URL = "static/"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["SHOP_DATABASE"],
        "HOST": os.environ["SHOP_DATABASE_HOST"],
        "USER": os.environ["SHOP_DATABASE_USER"],
    }
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "webhooks_app",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
WEBHOOKS = {
    "EVENT_TYPES": ["order.paid", "order.shipped"],
    "AUTHENTICATION_CLASSES": ["access.ShopAuthentication"],
    # For receivers on the same machine; leave these three out for receivers on the internet.
    "REQUIRE_HTTPS": False,
    "ALLOW_NETWORKS": ["127.0.0.0/8"],
    "ALLOW_HOSTS": ["127.0.0.1"],
}
