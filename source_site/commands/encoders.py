"""Define the commands of ``ecan-source`` about public encoders."""

from typing import TYPE_CHECKING

from protocol.encoders.commands import encoder_group

if TYPE_CHECKING:
    from protocol.encoders.add import Checks


def _checks() -> "Checks":
    """Return what the numeric side asks of an encoder."""
    from ecan_core.encoders.checks import check_file, check_folder
    from protocol.encoders.add import Checks

    return Checks(file=check_file, folder=check_folder)


encoder = encoder_group("ecan-source", _checks)
