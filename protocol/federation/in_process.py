"""Carry a federation's messages between sites of one process.

This serves to try a plan, and to test rules without a network.
"""

from collections.abc import Callable, Iterable, Sequence

from flwr.app import Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from protocol.federation.messages import Answer, Question
from protocol.federation.records import question_of, reply_of


class InProcessGrid(Grid):
    """Hand each question straight to a site of this process.

    A site's fault ends the run and says why.

    Args:
        sites: what each site answers.
        run: number of the run.
    """

    def __init__(self, sites: Sequence[Callable[[Question], Answer]], *, run: int = 1) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run, SUPERLINK_NODE_ID, run
        self._sites = dict(enumerate(sites, start=SUPERLINK_NODE_ID + 1))
        self._replies: dict[str, Message] = {}
        self._run = Run.create_empty(run)

    def set_run(self, run: Run) -> None:
        """Take over what is known of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Return what is known of the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the numbers of the sites."""
        return list(self._sites)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let the sites answer."""
        return [self._answered(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Fetch what they answered."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Let the sites answer, and fetch that."""
        return self.pull_messages(self.push_messages(messages))

    def _answered(self, message: Message) -> str:
        answer = self._sites[message.metadata.dst_node_id](question_of(message))
        self._replies[message.object_id] = reply_of(answer, message)
        return message.object_id
