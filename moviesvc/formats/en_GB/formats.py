"""Times as the log writes them: to the second, in UTC, in 24 hours."""

DATETIME_FORMAT = "Y-m-d H:i:s"
