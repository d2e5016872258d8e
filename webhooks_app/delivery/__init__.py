"""How does what is due become a recorded attempt?"""
