"""List the system calls that a confined process is refused."""

from dataclasses import dataclass

from protocol.sandbox.kernel import IO_URING_SETUP

Calls = dict[str, tuple[int, int | None]]
"""System calls with their numbers on x86_64 and on aarch64, which lacks some old ones."""

NEVER: Calls = {
    # Other processes: their memory and their open files.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    # Signals to them; `OWN_SIGNALS` are those that a process needs for itself.
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    # Ways to hand something over that are no files: memory, queues and semaphores under a number or a name.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182),
    "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184),
    "mq_getsetattr": (245, 185),
    # Ways around the other filters: calls through a ring, files by their handle, other namespaces.
    "io_uring_setup": (IO_URING_SETUP, IO_URING_SETUP),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_by_handle_at": (304, 265),
    "unshare": (272, 97),
    "setns": (308, 268),
    # What Landlock does not see, or not at first: the modes, owners, attributes, times and lengths of files. What is
    # open for writing may be cut: ftruncate stays.
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "truncate": (76, 45),
    # A pair of sockets is no way out by itself, but one of datagrams can be pointed at any named socket.
    "socketpair": (53, 199),
    # Other views of the files.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # The kernel itself.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "iopl": (172, None),
    "ioperm": (173, None),
    # What every process of the machine can see of another: its priority, its processors, its place among the others,
    # the machine's name. A process could signal by it, and slow others down.
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "personality": (135, 92),
    "vhangup": (153, 58),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "fanotify_init": (300, 262),
    # Other programs.
    "execve": (59, 221),
    "execveat": (322, 281),
}
SOCKET: Calls = {"socket": (41, 198)}
CALLING: Calls = {"connect": (42, 203)}
SERVING: Calls = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
}
# Without a network there is no use for a socket that came with stdin, stdout or stderr either.
SENDING: Calls = {
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
}
# Calls that are refused with some arguments only: which argument, and which values or bits of it.
CLONE: Calls = {"clone": (56, 220)}
NEW_USERS, NEW_NETWORK = 0x10000000, 0x40000000
NEW_NAMESPACES = 0x7E020000
"""The flags with which clone makes namespaces."""
HIDDEN = {"clone3": 435, "openat2": 437}
"""Their flags lie in memory, out of a filter's sight; without them, libraries fall back to clone and openat."""
OPEN: Calls = {"open": (2, None), "openat": (257, 56)}
FLAGS_OF_OPENING = {"open": 1, "openat": 2}
ACCESS, NEITHER, CUT = 0x3, 0x3, 0x200
"""O_ACCMODE; its fourth value, to neither read nor write, for which Landlock asks for no right; and O_TRUNC."""
IOCTL: Calls = {"ioctl": (16, 29)}
IOCTLS = (0x5412, 0x541C, 0x8901, 0x8902)
"""TIOCSTI and TIOCLINUX type into the terminal that the process was started from; FIOSETOWN and SIOCSPGRP: as below."""
FCNTL: Calls = {"fcntl": (72, 25)}
FCNTLS = (8, 15)
"""F_SETOWN and F_SETOWN_EX: to have the kernel send a signal of one's choice to any process of the user."""
PRCTL: Calls = {"prctl": (157, 167)}
PRCTLS = (1, 3, 16, 21, 22, 23, 38, 39)
"""What `prctl` may still do: have the process end with its parent, read, and add walls. It may not set the name that
every process of the machine can read, nor let others look in."""
OWN_SIGNALS: Calls = {"kill": (62, 129), "tgkill": (234, 131)}
LIMITS: Calls = {"prlimit64": (302, 261)}
COMPUTING: Calls = {
    # Pipes that are open already.
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    # Memory of its own.
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    # Time, and being interrupted.
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
"""All that a process needs which decodes what lies in its memory, with `MEMORY` and limits for itself."""
STATUS: Calls = {"newfstatat": (262, 79)}
BY_DESCRIPTOR = 0x1000
"""AT_EMPTY_PATH: how newer C libraries ask for the length of an open file. A path may still stand beside it; who knows
one could learn as much of a file as its length, and open none."""
MEMORY: Calls = {"mmap": (9, 222), "mprotect": (10, 226)}
"""Whose memory may not become code: a decoder that was taken over cannot bring its own."""
FLAGS_OF_SENDING = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}
CALLS_OUT_BY_SENDING = 0x20000000
"""MSG_FASTOPEN, which calls without connect and so past Landlock."""


@dataclass(frozen=True)
class Architecture:
    """Describe how system calls are told apart on a processor.

    By its audit number, its column in the tables, and its odd numbers.
    """

    audit: int
    column: int
    x32_bit: int | None


ARCHITECTURES = {
    "x86_64": Architecture(audit=0xC000003E, column=0, x32_bit=0x40000000),
    "aarch64": Architecture(audit=0xC00000B7, column=1, x32_bit=None),
}
