"""A foreign project that uses the webhook app, as docs/webhooks-app.md says it can."""
