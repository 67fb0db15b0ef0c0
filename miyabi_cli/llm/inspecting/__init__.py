"""What a provider's server says of itself before a token is generated, one module for each kind of server."""
