"""What do the tests stand on? Servers, receivers and rows that they make for themselves."""
