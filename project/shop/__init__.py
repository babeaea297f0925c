"""A small shop for the demo: customers, orders, and two audiences made of them."""
