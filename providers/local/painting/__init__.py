"""Drawing a scene from words."""
