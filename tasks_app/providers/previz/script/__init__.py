"""What does the prompt say?"""
