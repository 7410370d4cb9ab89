"""Join a federation with one corpus.

Puts the node, its book and its rules together, and attends.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from protocol.containment.launcher import Task, carry_out_contained
from protocol.containment.walls import Conditions
from protocol.federation.site.link import answers_of, attend, prepare
from protocol.files import make_private_folder
from source_site.federation.member import CarryOut, Member, Rules, speech_of
from source_site.federation.orders import Order, Site, name_of

PROGRAM = "source_site.federation.contained"
CACHE_FOLDER, CACHE_FILE = "cache", "features.cache"


def join_federation(
    recipe: str,
    path: Path,
    relabel: str,
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
    speech, subject = speech_of(recipe, path), {"recipe": recipe, "corpus": str(path.resolve())}
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
        carry_out=_contained(link.accepted, announce, quiet=quiet),
        announce=announce,
    )
    attend(link, member.answer, [*speech, link.key, link.book, link.home], announce)


def _contained(accepted: str | None, announce: Callable[[str], None], *, quiet: bool) -> CarryOut:
    def carry_out(order: Order) -> dict[str, Any]:
        task = Task(program=PROGRAM, command=name_of(order), order=asdict(order))
        return carry_out_contained(task, conditions=Conditions(accepted=accepted), announce=announce, quiet=quiet)

    return carry_out
