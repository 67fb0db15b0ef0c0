"""Opening hours: merging, asking, adding up. Times are minutes since midnight."""


def merge(spans):
    """Return the spans as sorted, non-overlapping ones; spans that touch become one."""
    merged = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def is_open(spans, minute):
    """Say whether a minute lies within a span; the end itself is closed."""
    return any(start <= minute < end for start, end in spans)


def total(spans):
    """Return how many minutes the spans cover, each minute counted once."""
    return sum(end - start for start, end in merge(spans))
