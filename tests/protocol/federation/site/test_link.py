"""A site's end of a federation: what it says of a question that it does not answer, and how it begins."""

import pytest

from protocol.errors import Code, ContainmentError, MalformedError, PeerError, RefusedError
from protocol.federation.messages import FAILED, REFUSED, Answer, Question
from protocol.federation.site import link
from protocol.federation.site.link import Link, answered, prepare

QUESTION = Question(run=7, kind="train")
SUBJECT = {"corpus": "one"}


def options(folder, **changes):
    given = {"address": "127.0.0.1:9", "ca": folder / "ca.crt", "key": folder / "node.key", "peers": ()}
    return given | {"home": folder / "home", "patience_s": 0.0, "new_book": None, "accepted": None} | changes


def asked(fault: Exception) -> tuple[Answer, str]:
    said: list[str] = []

    def answer(_: Question) -> Answer:
        raise fault

    return answered(QUESTION, answer, said.append), "\n".join(said)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (RefusedError(Code.POLICY, "/ward/audio is not approved; approve it."), REFUSED),
        (MalformedError(Code.PROTOCOL, "/ward/audio is damaged; mend it."), REFUSED),
        (ValueError("/ward/audio"), FAILED),
        (OSError("/ward/audio"), FAILED),
        (MemoryError("/ward/audio"), FAILED),
    ],
)
def test_of_a_fault_one_word_leaves_and_the_log_says_why(fault, word):
    answer, said = asked(fault)
    assert answer == Answer(error=word)
    assert "/ward/audio" in said
    assert said.startswith(f"run 7: train: {word}")


def test_an_answer_leaves_as_it_is():
    said: list[str] = []
    assert answered(QUESTION, lambda _: Answer(fields={"a": 1}), said.append) == Answer(fields={"a": 1})
    assert said == ["run 7: train: answered"]


def test_the_first_use_makes_a_key_and_a_book_and_the_second_finds_them(tmp_path):
    said: list[str] = []
    assert prepare(options(tmp_path), SUBJECT, said.append) is None
    assert "node.pub" in said[0]
    found = prepare(options(tmp_path), SUBJECT, said.append)
    assert isinstance(found, Link)
    assert found.book == tmp_path / "node.book"
    assert found.book.exists()


def test_a_whole_book_is_not_begun_anew(tmp_path):
    prepare(options(tmp_path), SUBJECT, lambda _: None)
    with pytest.raises(RefusedError, match="whole book"):
        prepare(options(tmp_path, new_book="to forget"), SUBJECT, lambda _: None)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "", "no.such.host.invalid.:-1"])
def test_an_address_that_is_none_is_said_so(address):
    with pytest.raises(PeerError, match="HOST:PORT"):
        link._resolved(address)


def test_a_node_that_says_nothing_of_its_walls_is_not_trusted(tmp_path):
    with pytest.raises(ContainmentError, match="could not be walled in"):
        link._say_walls(b"", Link(**_link(tmp_path)), lambda _: None)


def test_walls_and_their_absence_are_announced(tmp_path):
    said: list[str] = []
    chosen = Link(**_link(tmp_path, accepted="an old kernel"))
    link._say_walls(b'{"walls": true, "tried": 5}', chosen, said.append)
    link._say_walls(b'{"walls": false, "tried": 5}', chosen, said.append)
    assert "sees none of 5 places" in said[0]
    assert "UNCONTAINED" in said[1]
    assert "an old kernel" in said[1]


def _link(folder, **changes):
    chosen = options(folder, **changes)
    del chosen["new_book"]
    return chosen
