"""OpenAI's image models, at OpenAI and at Azure."""
