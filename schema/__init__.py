"""What clients see: types, inputs, enums and payloads of the public contract."""
