"""How root fields are answered: call one service, wrap the answer."""
