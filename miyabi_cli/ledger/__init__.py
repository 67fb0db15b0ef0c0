"""What requests to models have cost, and the caps on it."""
