"""The status of the sync as it is shown: its state, counts, and messages about them."""
