"""What may an operator do, and how is it told?"""
