"""The resolvers of root fields: each calls one service and returns its result."""
