"""Does the service work with ordinary servers and proxies of others?"""
