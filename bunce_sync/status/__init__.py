"""What is shown of the sync: its state, the counts, and the messages about them."""
