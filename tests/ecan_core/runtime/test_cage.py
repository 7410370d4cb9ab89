"""The walls that a site brings to decoders."""

from ecan_core.runtime import cage


def test_a_library_builds_nothing_and_a_site_what_it_brought():
    built = []
    cage.build(3)
    cage.bring(built.append)
    try:
        cage.build(4)
    finally:
        cage.bring(lambda _: None)
    assert built == [4]
