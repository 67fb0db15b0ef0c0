"""What a user can set, from where it comes, and what of it needs trust."""
