"""How is one thing put on paper?"""
