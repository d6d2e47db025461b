"""What a client's bytes meet first: HTTP, WebSocket, authentication, and the cost of a query."""
