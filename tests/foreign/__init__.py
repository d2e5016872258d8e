"""Does the service hold with servers and proxies that nobody here wrote?"""
