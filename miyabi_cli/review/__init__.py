"""`review`: linters, secrets and a model look at a change, and one score says what they found."""
