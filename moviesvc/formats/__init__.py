"""How are dates written in the admin?"""
