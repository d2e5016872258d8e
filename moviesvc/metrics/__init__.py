"""How do the figures of many processes become one?"""
