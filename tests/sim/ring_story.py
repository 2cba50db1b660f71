"""A run as a text that a person can follow: one line for each event, but no pulses and no news.

0.118  m1   commits step 0                        what a machine does
0.121  m0 > m1   REDUCE step 1 chunk 2 hop 0      what arrives
"""

from __future__ import annotations

from ring_world import Node, World

from meshd.core.ring import captain as captains
from meshd.core.ring.agreement import Cargo, Plan, RingId
from meshd.core.ring.effects import (
    Answer,
    Committed,
    Complaint,
    Dismissed,
    FrameHead,
    Gathered,
    Reformed,
)

QUIET = ("PULSE", "NEWS", "JOIN", "LEAVE", "PROPOSE", "ACK", "COMMIT", "COMPLAINT")


class Story:
    """Listens to a world. `hook`: what else looks at each message, and may lose it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lines: list[str] = []
        self.hook = world.links.hook
        world.links.hook = self.message
        world.on_effect = self.effect

    def tell(self, who: str, what: str) -> None:
        self.lines.append(f"{self.world.now:7.3f}  {who:<9}{what}".rstrip())

    def message(self, what: str, a: str, b: str, head: FrameHead | None) -> str | None:
        fate = self.hook(what, a, b, head) if self.hook else None
        if head is not None and what not in QUIET:
            kind = {"GATHER": "kind", "SLICE": "slice", "WEIGHTS": "slice"}.get(what, "chunk")
            fates = {"lose": "   is lost", "twice": "   comes twice", None: ""}
            where = f"{what} step {head.step} {kind} {head.index} hop {head.hop}{fates[fate]}"
            self.tell(f"{a} > {b}", where)
        return fate

    def effect(self, node: Node, effect: object) -> None:
        said = describe(effect)
        if said:
            self.tell(node.key, said)


def name(ring: RingId) -> str:
    return f"ring {ring.generation} of {ring.captain}" if ring.generation else "no ring"


def describe(effect: object) -> str:
    if isinstance(effect, captains.Ask):
        return f"asks {effect.to} for {name(effect.proposal.ring)}"
    if isinstance(effect, Answer):
        ack = effect.ack
        running = f", in a step of {name(ack.running)}" if ack.running.generation else ""
        leaving = ", and leaves" if ack.leaving else ""
        has = f"has {ack.step} steps{running}, holds {listed(ack.held)}{leaving}"
        return f"answers {effect.to} for {name(ack.ring)}: " + (
            has if ack.step >= 0 else "has nothing"
        )
    if isinstance(effect, captains.Formed):
        return formed(effect.plan, effect.why)
    if isinstance(effect, captains.Stalled):
        return f"stalls: {effect.why}: {listed(effect.missing)}"
    if isinstance(effect, Complaint):
        return f"complains of {name(effect.ring)}: {effect.about} {effect.why}".replace(":  ", ": ")
    if isinstance(effect, Committed):
        return f"commits step {effect.step}"
    if isinstance(effect, Gathered):
        return f"has gathered kind {effect.kind} at step {effect.step}"
    if isinstance(effect, Reformed):
        return f"goes on in {name(effect.plan.ring)}, rank {effect.rank}"
    if isinstance(effect, Dismissed):
        return f"goes: {name(effect.plan.ring)} is without it"
    return ""


def listed(slices: tuple[int, ...]) -> str:
    return " ".join(map(str, slices)) or "none"


def formed(plan: Plan, why: str) -> str:
    owners = " ".join(plan.order[rank] for rank in plan.owners)
    sent = ", ".join(
        f"{t.donor} > {t.receiver} {t.cargo.name}"
        + (f" {t.index}" if t.cargo in (Cargo.SLICE, Cargo.WEIGHTS) else "")
        for t in plan.transfers
    )
    thrown = "".join(f"; {key} throws away {steps}" for key, steps in plan.thrown_away)
    return (
        f"forms {name(plan.ring)} at step {plan.step}, since {why}: {' '.join(plan.order)}; "
        f"slices of {owners}" + (f"; {sent}" if sent else "") + thrown
    )
