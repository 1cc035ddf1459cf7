from common.vision.leaks import Pictures, find_leaks, leak_warnings


def pictures(*rows: tuple[str, str, tuple[str, str] | None]) -> Pictures:
    paths, digests, groups = zip(*rows, strict=True)
    return Pictures(paths, digests, groups)


TRAIN = pictures(("t/p1_a.jpg", "d1", ("p1", "ill")), ("t/p2_a.jpg", "d2", ("p2", "ill")), ("t/x.jpg", "d3", None))


def test_every_affected_picture_is_counted_once_and_under_each_of_its_kinds():
    judged = pictures(
        ("v/p1_b.jpg", "e1", ("p1", "ill")),
        ("v/p2_a.jpg", "d2", ("p2", "ill")),
        ("v/p1_c.jpg", "e2", ("p1", "well")),
        ("v/y.jpg", "e3", None),
    )
    found = find_leaks(TRAIN, judged)
    assert (found["pictures"], found["affected"]) == (4, 2)
    assert {kind: value["count"] for kind, value in found["kinds"].items()} == {
        "identical": 1, "near-identical": 0, "group": 2
    }  # fmt: skip
    assert found["kinds"]["group"]["pairs"][0] == ["v/p1_b.jpg", "t/p1_a.jpg", "p1"]
    (told,) = leak_warnings(found, "validation", "Do this.")
    assert told == (
        "2 of 4 validation pictures have counterparts in training: 1 are identical files (v/p2_a.jpg = t/p2_a.jpg), "
        "2 share a group by their names (p1: v/p1_b.jpg = t/p1_a.jpg); if a group is one patient, scene or video, "
        "the validation figures are too high. Do this."
    )
    assert "if a group" not in leak_warnings(found, "validation", "", is_sure=True)[0]


def test_nothing_is_said_where_nothing_leaks():
    assert leak_warnings(find_leaks(TRAIN, pictures(("v/z.jpg", "e", ("p3", "ill")))), "test", "") == []
