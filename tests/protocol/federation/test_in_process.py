"""A federation inside one process: the same messages, without a network."""

import numpy as np
from flwr.app import Message

from protocol.federation.in_process import InProcessGrid
from protocol.federation.messages import REFUSED, Answer, Question
from protocol.federation.records import answer_of, content_of


def echo(question: Question) -> Answer:
    return Answer(fields={"kind": question.kind, "run": str(question.run)}, arrays=question.arrays)


def asked(grid: InProcessGrid, kind: str = "train") -> list[Message]:
    content = content_of({"round": 1}, {"w": np.ones(2, np.float32)})
    return list(grid.send_and_receive([Message(content, node, kind) for node in grid.get_node_ids()]))


def test_every_site_is_asked_and_answers():
    grid = InProcessGrid([echo, echo], run=9)
    replies = asked(grid)
    assert [reply.metadata.src_node_id for reply in replies] == list(grid.get_node_ids())
    assert [answer_of(reply).fields for reply in replies] == [{"kind": "train", "run": "9"}] * 2


def test_a_refusal_comes_back_as_one_word():
    (reply,) = asked(InProcessGrid([lambda _: Answer(error=REFUSED)]))
    assert reply.has_error()
    assert reply.error.reason == REFUSED


def test_an_answer_is_fetched_once():
    grid = InProcessGrid([echo])
    (name,) = grid.push_messages([Message(content_of({"a": 1}, {}), *grid.get_node_ids(), "query")])
    assert len(list(grid.pull_messages([name]))) == 1
    assert list(grid.pull_messages([name])) == []
