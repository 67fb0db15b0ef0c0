from schedule import is_open, merge, total


def test_spans_that_overlap_become_one():
    assert merge([(540, 720), (660, 780)]) == [(540, 780)]


def test_a_span_within_another_changes_nothing():
    assert merge([(540, 1080), (600, 660)]) == [(540, 1080)]


def test_spans_apart_stay_apart():
    assert merge([(900, 960), (540, 600)]) == [(540, 600), (900, 960)]


def test_the_end_is_closed():
    assert is_open([(540, 720)], 540)
    assert not is_open([(540, 720)], 720)


def test_total_counts_each_minute_once():
    assert total([(540, 1080), (600, 660), (1080, 1140)]) == 600
