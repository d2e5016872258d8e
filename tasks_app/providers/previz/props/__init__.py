"""Which things can be drawn?"""
