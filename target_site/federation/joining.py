"""Join sites that adapt one model.

Puts the node, its book and its rules together, and attends.
"""

from collections.abc import Callable
from typing import Any

from ecan_core.data.unlabeled import roots
from protocol.federation.site.link import answers_of, attend, prepare
from target_site.federation.member import Member, Setting, terms_of

SUBJECT = {"purpose": "adapting together"}
"""What the book of such a node is about; its runs say which model."""


def join_together(setting: Setting, options: dict[str, Any], announce: Callable[[str], None]) -> None:
    """Take part until ended from outside; the first time, make the node's key.

    Args:
        setting: how this site's operator set its node up.
        options: those of `ecan_core.command_line.node_options`.
        announce: tells a person.

    Raises:
        RefusedError: the site's rules let nothing leave, or the bundle is not approved.
        PeerError: the node was not let in.
        ContainmentError: a process cannot be contained as it must be.
        UnauthenticError: the book of what this node has answered is lost, or the bundle was not accepted.
    """
    terms_of(setting)
    link = prepare(options, SUBJECT, announce)
    if link is None:
        return
    member = Member(setting, answers=answers_of(link, SUBJECT), announce=announce)
    unseen = [*roots(setting.audio), setting.keys, setting.bundle, setting.config, link.key, link.book, link.home]
    attend(link, member.answer, unseen, announce)
