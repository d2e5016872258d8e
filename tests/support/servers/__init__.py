"""Which foreign servers do tests run against?"""
