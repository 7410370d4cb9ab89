"""The walls that a site brings to decoders."""

from ecan_core.runtime import cage


def test_a_library_builds_nothing_and_a_site_what_it_brought(monkeypatch):
    monkeypatch.setattr(cage, "_build", cage._no_walls)  # another test may have brought some
    built = []
    cage.build(3)
    cage.bring(built.append)
    cage.build(4)
    assert built == [4]
