"""How webhooks are delivered."""
