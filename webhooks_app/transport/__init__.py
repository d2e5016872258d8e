"""How does one request go out, and what came back?"""
