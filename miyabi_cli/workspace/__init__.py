"""Git, worktrees, patches, paths, the sandbox, checks and toolchains."""
