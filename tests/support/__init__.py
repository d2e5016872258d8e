"""What do the tests share? Servers, receivers, rows and other helpers that they make themselves."""
