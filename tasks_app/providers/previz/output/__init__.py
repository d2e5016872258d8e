"""Which files come out?"""
