"""What stands where, and what does the camera see?"""
