"""What is heard?"""
