"""stub"""

import dramatiq


class ShutdownMiddleware(dramatiq.Middleware):
    """stub"""


class SweepMiddleware(dramatiq.Middleware):
    """stub"""
