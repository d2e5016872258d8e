"""stub"""

import dramatiq


class WebhookMiddleware(dramatiq.Middleware):
    """stub"""
