"""All sites of a federation in one process: to try a plan out, and to test the app without a network.

The app is the same that Flower's engine runs; here its messages go from function to function.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

NodeConfig = Mapping[str, bool | float | int | str]
_RUN = 1


class InProcessGrid(Grid):
    """Flower's grid over sites that live in this process. A site's fault ends the run and says why.

    Args:
        app: what each site runs.
        sites: how each site's operator would describe it to its node.
    """

    def __init__(self, app: ClientApp, sites: Sequence[NodeConfig]) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN, 0, 0
        self._app = app
        self._contexts = {number: context_of(number, config) for number, config in enumerate(sites, start=1)}
        self._replies: dict[str, Message] = {}
        self._num_sent = 0
        self._run = Run.create_empty(_RUN)

    def set_run(self, run: Run) -> None:
        """Take over a run's information."""
        self._run = run

    @property
    def run(self) -> Run:
        """Information on the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Numbers of the sites."""
        return list(self._contexts)

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
        self._num_sent += 1
        name, node = str(self._num_sent), message.metadata.dst_node_id
        message.metadata.__dict__["_message_id"] = name
        TaskIdentity.node_id = node
        try:
            self._replies[name] = self._app(deepcopy(message), self._contexts[node])  # a wire would copy it as well
        finally:
            TaskIdentity.node_id = 0
        return name


def context_of(node: int, config: NodeConfig) -> Context:
    """A Flower context of this process's run."""
    return Context(run_id=_RUN, node_id=node, node_config=dict(config), state=RecordDict(), run_config={})
