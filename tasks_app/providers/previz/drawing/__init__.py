"""How are pixels, light and texts drawn?"""
