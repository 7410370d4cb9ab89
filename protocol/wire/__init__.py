"""Hand a bundle over by gRPC.

Messages, limits, refusals and mutually pinned channels.

Whatever speaks gRPC imports it after this package, so the library is set up in this one place: its own log, which
would print addresses and paths on stderr, is silenced, and TLS 1.2 is left without any cipher suite that could be
used with our certificates, which hold keys for ECDSA. That leaves TLS 1.3, whose suites gRPC has no switch for.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"
