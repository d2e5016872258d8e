"""What can a client ask about webhooks? One file for each resource."""
