"""What is repaired, and what is thrown away?"""
