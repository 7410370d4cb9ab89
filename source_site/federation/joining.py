"""Join a federation with one corpus.

Puts the node, its book and its rules together, and attends.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from protocol.containment.launcher import Task, carry_out_contained
from protocol.containment.layout import out_of_reach
from protocol.containment.walls import Conditions
from protocol.federation.site.link import Link, answers_of, attend, prepare
from protocol.files import make_private_folder
from protocol.identity.key_files import PRIVATE_FILES
from source_site.federation.member import CarryOut, Member, Rules, speech_of
from source_site.federation.orders import Order, Site, name_of
from source_site.keys.folder import LEDGER_FILE
from source_site.training.record import NOISE_KEY_FILE

PROGRAM = "source_site.federation.contained"
PRIVATE = frozenset({*PRIVATE_FILES, LEDGER_FILE, NOISE_KEY_FILE})
"""Names of files that are none of the business of a process which opens speech."""
CACHE_FOLDER, CACHE_FILE = "cache", "features.cache"


def join_federation(
    recipe: str,
    path: Path,
    relabel: dict[str, str],
    rules: Rules,
    options: dict[str, Any],
    announce: Callable[[str], None],
    *,
    quiet: bool,
) -> None:
    """Take part in federations of one coordinator until ended.

    It is ended from outside. The first time it makes the node's key.

    Args:
        recipe: how the corpus is laid out.
        path: where it lies.
        relabel: what its labels count as.
        rules: what this site insists on.
        options: those of `ecan_core.command_line.node_options`.
        announce: tells a person.
        quiet: whether the contained process says nothing but errors.

    Raises:
        UsageError: the corpus is not there.
        PeerError: the node was not let in.
        ContainmentError: a process cannot be contained as it must be.
        UnauthenticError: the book of what this node has answered is lost.
    """
    speech, subject = speech_of(recipe, path, relabel), {"recipe": recipe, "corpus": str(path.resolve())}
    link = prepare(options, subject, announce)
    if link is None:
        return
    cache = link.home / CACHE_FOLDER
    make_private_folder(cache)
    member = Member(
        Site(recipe=recipe, path=path.resolve(), cache=(cache / CACHE_FILE).resolve(), speech=speech, relabel=relabel),
        rules,
        home=link.home.resolve(),
        answers=answers_of(link, subject),
        carry_out=_contained(link, announce, quiet=quiet),
        announce=announce,
    )
    attend(link, member.answer, [*speech, link.key, link.book, link.home], announce)


def _contained(link: Link, announce: Callable[[str], None], *, quiet: bool) -> CarryOut:
    def carry_out(order: Order) -> dict[str, Any]:
        task = task_of(order, own=(link.key, link.book))
        return carry_out_contained(task, conditions=Conditions(accepted=link.accepted), announce=announce, quiet=quiet)

    return carry_out


def task_of(order: Order, own: Sequence[Path]) -> Task:
    """Describe an order to the launcher of contained processes.

    Args:
        order: what is to be done.
        own: the node's own files.

    Raises:
        ContainmentError: keys or ledgers lie where the process may read or write.
    """
    private = out_of_reach(own, PRIVATE.__contains__, readable=order.readable, writable=order.writable)
    return Task(program=PROGRAM, command=name_of(order), order=asdict(order), private=private)
