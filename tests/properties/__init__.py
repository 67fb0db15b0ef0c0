"""What holds for any text that a model, a repository or a server may write: no crash, no hang, no escape, no loss.

Here are the properties of whole parsers and of what goes through several of them; those of one small function stand
with its other tests. `HYPOTHESIS_PROFILE=soak` looks at many more examples.
"""
