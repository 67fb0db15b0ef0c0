"""GitHub by its REST API: where a repository is, who asks, issues and pull requests."""
