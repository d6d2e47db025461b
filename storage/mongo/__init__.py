"""MongoDB: one repository for each noun, and what they share."""
