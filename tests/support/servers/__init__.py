"""Which servers that nobody here wrote do tests run against?"""
