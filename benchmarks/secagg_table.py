"""How ``secagg.py`` shows its figures: a table, ratios beside their targets, a plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

OURS, FLOWER = "touchstone", "flwr SecAgg+"


TARGETS = {
    (20, 1_000_000, 0): (7, 50),
    (20, 1_000_000, 2): (7, 30),
    (20, 10_000_000, 0): (10, 15),
    (20, 10_000_000, 2): (10, 12),
    (64, 100_000, 0): (None, 300),
}
"""How many times less CPU than Flower's a member and the coordinator are to need."""


@dataclass
class Row:
    """One configuration of one implementation, in CPU seconds."""

    name: str
    members: int
    params: int
    lost: int
    member: float = 0.0
    coordinator: float = 0.0
    opening: float = 0.0
    hashing: float = 0.0
    setup_member: float = 0.0
    setup_coordinator: float = 0.0
    upload_bytes: float = 0.0
    peak_bytes: float = 0.0
    error: str = ""


def cpu_flags() -> str:
    """Return which instructions that matter here this machine has, and which it lacks."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    wanted = ("aes", "vaes", "sha_ni", "avx2", "avx512f")
    return " ".join(flag if flag in flags else f"no-{flag}" for flag in wanted)


HEAD = (
    f"{'':13}{'n':>4}{'params':>10}{'lost':>5}{'member ms':>11}{'coord ms':>10}{'open':>6}"
    f"{'sha256 ms':>11}{'set-up m/c':>14}{'B/param':>9}{'coord MiB':>11}"
)


def line(row: Row) -> str:
    """Return a row of the table."""
    setup = f"{row.setup_member * 1e3:.1f}/{row.setup_coordinator * 1e3:.1f}"
    memory = f"{row.peak_bytes / 2**20:.0f}" if row.peak_bytes else "-"
    return (
        f"{row.name:13}{row.members:>4}{row.params:>10}{row.lost:>5}{row.member * 1e3:>11.1f}"
        f"{row.coordinator * 1e3:>10.1f}{row.opening * 1e3:>6.1f}{row.hashing * 1e3:>11.1f}"
        f"{setup:>14}{row.upload_bytes / row.params:>9.2f}{memory:>11}  {row.error}"
    )


def verdict(ratio: float, target: int | None) -> str:
    """Say whether a ratio reaches its target, where it has one."""
    if target is None:
        return ""
    return f" (target {target}x: {'met' if ratio >= target else 'missed'})"


def ratios(rows: list[Row]) -> None:
    """Print how many times less ours needs in each case, and whether that reaches its target."""
    for ours in rows:
        for peer in rows:
            same = (ours.members, ours.params, ours.lost) == (peer.members, peer.params, peer.lost)
            if ours.name == OURS and peer.name != ours.name and same:
                member, desk = peer.member / ours.member, peer.coordinator / ours.coordinator
                all_in = peer.coordinator / (ours.coordinator + ours.hashing)
                case = (ours.members, ours.params, ours.lost)
                wanted = TARGETS.get(case, (None, None))
                print(
                    f"ratio n={ours.members} params={ours.params} lost={ours.lost}: "
                    f"member {member:.1f}x{verdict(member, wanted[0])}, "
                    f"coordinator {desk:.1f}x{verdict(desk, wanted[1])} "
                    f"({all_in:.1f}x with hashing), "
                    f"bytes {peer.upload_bytes / ours.upload_bytes:.2f}x"
                    + (
                        f", memory {peer.peak_bytes / ours.peak_bytes:.1f}x"
                        if ours.peak_bytes
                        else ""
                    )
                )


def plot(rows: list[Row], target: Path) -> None:
    """Draw coordinator and member CPU, ours beside Flower's, on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "touchstone"
    from matplotlib import pyplot

    cases = list(dict.fromkeys((row.members, row.params, row.lost) for row in rows))
    labels = [f"n={n}, {params:,}\n{lost} lost" for n, params, lost in cases]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 0.7 * len(cases) + 1.6), sharey=True)
    colours = {OURS: "#1b6e53", FLOWER: "#b0b0b0"}
    for axis, name in zip(axes, ("coordinator", "member"), strict=True):
        for shift, (peer, colour) in zip((-0.2, 0.2), colours.items(), strict=True):
            found = {(r.members, r.params, r.lost): r for r in rows if r.name == peer}
            places = [i for i, case in enumerate(cases) if case in found]
            values = [getattr(found[cases[i]], name) * 1e3 for i in places]
            bars = axis.barh([i + shift for i in places], values, 0.38, color=colour, label=peer)
            axis.bar_label(bars, fmt="%.0f ms", padding=3, fontsize=8)
        axis.set_xscale("log")
        axis.margins(x=0.25)
        axis.set_title(f"{name}: CPU a round" + ("" if name == "member" else ", SHA-256 apart"))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(cases)), labels)
    axes[0].invert_yaxis()
    axes[1].legend(frameon=False, loc="upper right")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
