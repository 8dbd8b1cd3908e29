"""The choice of frameworks for a locked stack."""
