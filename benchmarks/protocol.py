"""The protocol's figures: the latest result of each script below as a table in docs/benchmarks.md."""

import argparse
import subprocess
import sys

from benchmarks.record import ROOT, latest, write_section

SCRIPTS = (
    ("verification",),
    ("transfer",),
    ("many_targets",),
    ("half_open",),
    ("bit_flips",),
    ("kill_loop", "--kills", "1000"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true", help="measure everything first: about 25 minutes")
    if parser.parse_args().run:
        for name, *options in SCRIPTS:
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT, check=True)
    write_section(ROOT / "docs" / "benchmarks.md", "protocol", table())


def table() -> str:
    """What was asked, what was measured, what the bar is, and by which commit."""
    small, large = (latest("verification", arch=arch) for arch in ("bench-1mb", "bench-400mb"))
    transfer, targets, half_open = latest("transfer"), latest("many_targets"), latest("half_open")
    flips, kills = latest("bit_flips"), latest("kill_loop")
    rows = [
        (
            "verify a bundle of 1 MB, first time in a process",
            f"{1000 * small['cold_verify_s']:.1f} ms",
            "50 ms",
            small,
        ),
        (
            f"verify a bundle of {large['bytes'] / 1e6:.0f} MB, beside SHA-256 of it alone",
            f"{large['ratio_median_of_rounds']:.2f} times, {large['verify_s']:.2f} s ({large['rounds']} rounds)",
            "1.3 times",
            large,
        ),
        (
            "memory beyond the file: verify; open a sealed file and verify",
            f"{large['peak_above_file_mib']} MiB; {large['open_and_verify_peak_above_file_mib']} MiB",
            "64 MiB",
            large,
        ),
        (
            f"transfer of {transfer['size_mib'] / 1024:.0f} GiB over mutual TLS, as a share of a bare gRPC stream",
            f"{transfer['share_of_bare']:.2f} (median of {transfer['rounds']} rounds: "
            + ", ".join(f"{share:.2f}" for share in transfer["shares"])
            + f"); {max(transfer['service_mib_per_s']):.0f} MiB/s at best",
            "0.8",
            transfer,
        ),
        (
            f"{targets['targets']} targets fetch {targets['size_mib']} MiB each from one exporter at once",
            f"{targets['succeeded']} succeed, in {targets['wall_s']:.1f} s",
            "all",
            targets,
        ),
        (
            f"an honest call beside {half_open['half_open']} half-open handshakes",
            f"{1000 * half_open['honest_call_beside_max_s']:.0f} ms at most; "
            f"all are gone after {half_open['last_ended_after_s']:.1f} s",
            "1 s",
            half_open,
        ),
        (
            "every bit of a bundle flipped",
            f"{flips['accepted']} of {flips['bits_flipped']} accepted",
            "0",
            flips,
        ),
        (
            "random SIGKILLs of exporter and receiver",
            f"{sum(kills['kills'].values())} kills, {kills['grants']} grants: "
            f"{kills['grants_with_two_digests']} with two digests, {kills['grants_lost']} lost; "
            f"the ledger's {kills['ledger_lines']} lines hold",
            "0 and 0",
            kills,
        ),
    ]
    lines = ["| question | measured | bar | commit |", "|---|---|---|---|"]
    lines += [f"| {what} | {figure} | {bar} | {row['commit']} |" for what, figure, bar, row in rows]
    days = sorted({row["day"] for *_, row in rows})
    return "\n".join(lines) + f"\n\n{' to '.join(days)}, {kills['machine']}."


if __name__ == "__main__":
    main()
