"""Which things can be drawn in a set?"""
