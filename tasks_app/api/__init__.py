"""What can a client say of tasks, and what do we answer?"""
