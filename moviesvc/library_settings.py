"""Which settings of libraries do not depend on the environment? Names are the libraries' own.

Part of the settings module; nothing is imported or computed here.
"""

from __future__ import annotations

from typing import Any

from moviesvc import __version__

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
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

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tasks_app.access.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["webhooks_app.api.access.HasAccess"],
    "DEFAULT_PARSER_CLASSES": ["tasks_app.api.json_format.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["tasks_app.api.json_format.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "tasks_app.api.json_format.Negotiation",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["tasks_app.access.throttling.KeyRateThrottle"],
    "EXCEPTION_HANDLER": "moviesvc.problems.exception_handler",
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS describes nothing
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "AI Movie Task Service",
    "VERSION": __version__,
    "DESCRIPTION": "Submit generation tasks; get a signed webhook when each one is done.\n\n"
    "Send your key as `X-API-Key` (*Authorize* does it for the calls you try here). Times are UTC. "
    "Every error is `application/problem+json` and names the `request_id` to ask about.",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "/static/webhooks_app/icon.svg",
    "SWAGGER_UI_SETTINGS": {
        "deepLinking": True,
        "defaultModelsExpandDepth": 0,
        "displayRequestDuration": True,
    },
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["tasks_app.api.openapi.hooks.complete"],
    "WEBHOOKS": "tasks_app.api.openapi.hooks.WEBHOOKS",
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "AI Movie Task Service",
    "SITE_HEADER": "AI Movie Tasks",
    "SITE_SYMBOL": "movie",
    "DASHBOARD_CALLBACK": "moviesvc.dashboard.dashboard",
    "STYLES": ["/static/webhooks_app/admin.css"],
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": "/static/webhooks_app/icon.svg"}
    ],
    "SHOW_HISTORY": False,
    "ENVIRONMENT": "moviesvc.dashboard.environment",
    "SIDEBAR": {"show_search": False, "navigation": "moviesvc.dashboard.navigation"},
}
