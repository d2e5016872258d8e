"""What is owed, to whom, and where does it stand? The only writer of messages and attempts."""
