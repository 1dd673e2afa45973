"""Which kept documents are taken, and how often."""
