"""What can go wrong on the machines of a world and between them. Each fault says when it fired."""

from __future__ import annotations

from ring_world import VIEW_S, Node, World


def kill(world: World, key: str, how: str = "kill", heard_s: float = 0.5) -> None:
    """SIGKILL: what was sent is on its way, or lost; links break, and the daemons hear of it."""
    node = world.nodes[key]
    if not node.alive:
        return
    node.alive = False
    world.fired[how] += 1
    world.went(node)
    for other in list(world.nodes.values()):
        if other is node:
            continue
        if world.random.random() < 0.5:
            world.links.drop(key, other.key)
        world.links.drop(other.key, key)
        _broken(world, other, key, "closed its link")
    world.all_see(node, lambda: False, heard_s)


def _broken(world: World, node: Node, other: str, why: str) -> None:
    delay = world.random.uniform(0.001, 0.05)
    world.after(delay, lambda: world.act(node, lambda: node.member.link_lost(other, why)))


def restart(world: World, key: str) -> None:
    """The machine is back, with nothing."""
    if not world.nodes[key].alive:
        world.fired["restart"] += 1
        node = world.add(key)
        world.all_see(node, lambda: node.alive)


def join(world: World) -> str:
    """A machine that never was a member."""
    key = f"m{len(world.nodes)}"
    node = world.add(key)
    world.fired["join"] += 1
    world.all_see(node, lambda: node.alive)
    return key


def freeze(world: World, key: str, seconds: float) -> None:
    """SIGSTOP to worker and daemon; afterwards everything that came is there at once."""
    node = world.nodes[key]
    if not node.alive or node.frozen:
        return
    node.frozen = True
    world.fired["freeze"] += 1
    world.went(node)
    if seconds > VIEW_S:
        world.after(VIEW_S, lambda: world.all_see(node, lambda: node.alive and not node.frozen))
    world.after(seconds, lambda: _thaw(world, node))


def _thaw(world: World, node: Node) -> None:
    node.frozen = False
    waiting, node.waiting = node.waiting, []
    for act in waiting:
        act()
    if node.alive:
        world.all_see(node, lambda: node.alive and not node.frozen, 1.0)


def leave(world: World, key: str) -> None:
    """The owner is back: the daemon says so to the captain at once."""
    node = world.nodes[key]
    if node.alive and not node.leaving:
        node.leaving = True
        world.fired["leave"] += 1
        world.act(node, lambda: world.daemon(node))


def break_link(world: World, a: str, b: str) -> None:
    """The connection from a to b ends, with what is on it; both hear of it."""
    world.fired["broken link"] += 1
    world.links.drop(a, b)
    _broken(world, world.nodes[a], b, "the link broke")
    _broken(world, world.nodes[b], a, "the link broke")


def cut(world: World, side: set[str], seconds: float, how: str = "partition") -> None:
    """Nothing passes between `side` and the others for so long, and nobody is told."""
    cut = frozenset(side)
    if not cut or len(cut) == len(world.nodes):
        return
    world.links.cuts.add(cut)
    world.fired[how] += 1
    few = min(cut, set(world.nodes) - cut, key=len)
    for key in sorted(few):
        world.went(world.nodes[key])
    for a, b in _across(world, cut):
        world.links.drop(a.key, b.key)
        delay = world.random.uniform(0.8, 1.0) * VIEW_S
        world.after(delay, lambda a=a, b=b: _miss(world, a, b))
    world.after(seconds, lambda: _heal(world, cut))


def _across(world: World, side: frozenset[str]) -> list[tuple[Node, Node]]:
    nodes = list(world.nodes.values())
    return [(a, b) for a in nodes for b in nodes if (a.key in side) != (b.key in side)]


def _miss(world: World, a: Node, b: Node) -> None:
    if world.links.cut(a.key, b.key):
        world.act(a, lambda: world.sees(a, b.key, False))


def _heal(world: World, side: frozenset[str]) -> None:
    world.links.cuts.discard(side)
    for a, b in _across(world, side):
        delay = world.random.uniform(0, 1.0)
        world.after(delay, lambda a=a, b=b: _meet(world, a, b))


def _meet(world: World, a: Node, b: Node) -> None:
    if world.nodes[b.key] is b and not world.links.cut(a.key, b.key):
        world.act(a, lambda: world.sees(a, b.key, b.alive and not b.frozen))
