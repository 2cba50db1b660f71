"""Who counts as alive, and how two machines find each other."""

from __future__ import annotations

from meshd.core.effects import Connect, Note, Send
from meshd.core.messages import Heartbeat, Hello
from meshd.core.node import Node
from meshd.core.peers import ADDRESSES_MAX, HEARTBEAT_S, LOST_AFTER_S, NOTES_MAX, Peers
from meshd.core.site import Identity
from meshd.core.types import MachineKey

US, THEM, OTHER = (MachineKey(f"{n:02d}" * 20) for n in range(3))
HELLO = Hello(1, "calls itself x", "10.0.0.2", 7001, 5, "0.1")


def peers_with(*keys):
    peers = Peers(US)
    peers.set_roster({key: f"desk-{key[:2]}" for key in (US, *keys)})
    return peers


def beat(sequence, boot=5, available=True):
    return Heartbeat(boot, sequence, available, "is free")


def test_states_and_the_rosters_name():
    peers = peers_with(THEM)
    peer = peers.get(THEM)
    assert peer.state() == "not seen"
    assert US not in peers
    peers.hello(THEM, HELLO, 10.0)
    assert peer.state() == "not seen", "a Hello alone proves one direction only"
    assert peers.heartbeat(THEM, beat(1), 10.5)
    assert (peer.state(), peer.name) == ("alive", "desk-01")
    assert peers.expire(10.5 + LOST_AFTER_S) == []
    assert peers.expire(10.5 + LOST_AFTER_S + 0.01) == [peer]
    assert peer.state() == "lost"
    assert peers.expire(99.0) == []


def test_hellos_alone_never_keep_a_machine_alive():
    peers = peers_with(THEM)
    peers.hello(THEM, HELLO, 0.0)
    peers.heartbeat(THEM, beat(1), 0.0)
    for second in range(1, 4):
        peers.hello(THEM, HELLO, float(second))
    assert peers.expire(3.5) == [peers.get(THEM)]


def test_any_other_message_keeps_a_machine_alive():
    peers = peers_with(THEM)
    peers.hello(THEM, HELLO, 0.0)
    peers.heartbeat(THEM, beat(1), 0.0)
    peers.heard(THEM, 2.0)
    assert peers.expire(4.0) == []
    assert peers.next_expiry() == 2.0 + LOST_AFTER_S


def test_a_late_or_foreign_heartbeat_says_nothing():
    peers = peers_with(THEM)
    assert not peers.heartbeat(THEM, beat(1), 0.0), "no Hello yet: whose boot is it?"
    peers.hello(THEM, HELLO, 0.0)
    assert peers.heartbeat(THEM, beat(3), 0.0)
    assert not peers.heartbeat(THEM, beat(2, available=False), 2.9)
    assert not peers.heartbeat(THEM, beat(9, boot=4), 2.9)
    assert peers.get(THEM).available
    assert peers.expire(3.1)


def test_another_boot_number_is_a_restart():
    peers = peers_with(THEM)
    assert not peers.hello(THEM, HELLO, 0.0)
    peers.heartbeat(THEM, beat(7), 0.0)
    again = Hello(1, "x", "10.0.0.2", 7001, 6, "0.2")
    assert peers.hello(THEM, again, 0.5)
    assert not peers.is_alive(THEM)
    assert peers.heartbeat(THEM, beat(1, boot=6), 0.6), "its sequence begins anew"
    assert peers.get(THEM).version == "0.2"


def test_two_machines_with_one_key_are_recognised_and_one_of_them_stays():
    """The copy of a state folder: both say Hello, and the numbers come back."""
    node = make_node(US, 7000)
    here, copy = HELLO, Hello(1, "x", "10.0.0.3", 7001, 6, "0.1")
    peer = node.site.peers.get(THEM)
    for second in range(4):
        for number, hello in enumerate((here, copy)):
            now = second + number / 2
            node.receive(THEM, hello, now)
            node.receive(THEM, beat(second, boot=hello.boot), now)
    assert peer.why == "two machines use them's key: was its state folder copied?"
    assert peer.alive and not peer.available
    kept, link = peer.boot, (peer.host, peer.port)
    node.drain()
    for second in range(4, 60):
        for hello in (here, copy):
            node.receive(THEM, hello, float(second))
            node.receive(THEM, beat(second, boot=hello.boot), float(second))
        assert (peer.alive, peer.boot, (peer.host, peer.port)) == (True, kept, link)
    assert not peer.available
    for second in range(60, 95):
        node.receive(THEM, beat(second, boot=kept), float(second))
    assert peer.available, "the other one has gone"


def test_a_second_machine_with_the_key_takes_over_when_the_first_is_gone():
    peers = peers_with(THEM)
    copy = Hello(1, "x", "10.0.0.3", 7001, 6, "0.1")
    for second in range(4):
        for hello in (HELLO, copy):
            peers.hello(THEM, hello, float(second))
            peers.heartbeat(THEM, beat(second, boot=hello.boot), float(second))
    peer = peers.get(THEM)
    other = copy if peer.boot == HELLO.boot else HELLO
    assert peers.expire(9.0) == [peer]
    assert peers.hello(THEM, other, 9.0), "a restart, as far as anyone can tell"
    assert peers.heartbeat(THEM, beat(1, boot=other.boot), 9.1) and peer.alive


def test_restarts_of_any_number_are_few_lines_but_each_one_counts():
    node = make_node(US, 7000)
    lines, welcomes = 0, 0
    for number in range(500):
        now = number / 50
        node.receive(THEM, Hello(1, "x", "10.0.0.2", 7001, number, "0.1"), now)
        assert not node.site.peers.is_alive(THEM)
        node.receive(THEM, beat(1, boot=number), now)
        welcomes += node.site.peers.is_alive(THEM)
        lines += sum(isinstance(effect, Note) for effect in node.drain())
    assert welcomes == 500 and 1 <= lines <= NOTES_MAX


def test_addresses_are_tried_in_turn_until_one_answers():
    peers = peers_with(THEM)
    assert peers.sighted(THEM, "172.17.0.1", 7001, 0.0, sure=False)
    assert not peers.sighted(THEM, "10.0.0.2", 7001, 0.1, sure=False), "give the first a chance"
    assert peers.try_others(1.0) == []
    (peer,) = peers.try_others(LOST_AFTER_S + 0.1)
    assert (peer.host, peer.port) == ("10.0.0.2", 7001)
    (peer,) = peers.try_others(2 * LOST_AFTER_S + 0.3)
    assert (peer.host, peer.port) == ("172.17.0.1", 7001)
    peers.hello(THEM, HELLO, 7.0)
    peers.heartbeat(THEM, beat(1), 7.0)
    assert peers.try_others(99.0) == []


def test_addresses_are_bounded_and_must_make_sense():
    peers = peers_with(THEM)
    for number in range(50):
        peers.sighted(THEM, f"10.0.0.{number}", 7001, 0.0, sure=False)
    assert len(peers.get(THEM).addresses) == ADDRESSES_MAX
    assert not peers.sighted(THEM, "", 7001, 0.0, sure=True)
    assert not peers.sighted(THEM, "10.0.0.2", 0, 0.0, sure=True)
    assert not peers.sighted(OTHER, "10.0.0.2", 7001, 0.0, sure=True), "a stranger"
    assert not peers.sighted(US, "10.0.0.2", 7001, 0.0, sure=True), "ourselves"


def make_node(key, port, boot=1):
    node = Node(Identity(key, f"desk-{port}", "10.0.0.9", port, boot, "0.1", 1), 0.0)
    node.roster({US: "us", THEM: "them"}, 0.0)
    node.drain()
    return node


def sends(node, kind):
    return [e.message for e in node.drain() if isinstance(e, Send) and isinstance(e.message, kind)]


def test_a_sighting_and_a_hello_both_lead_to_a_link():
    node = make_node(US, 7000)
    node.seen(THEM, "10.0.0.2", 7001, 0.0)
    effects = node.drain()
    assert effects[0] == Connect(THEM, "10.0.0.2", 7001)
    assert isinstance(effects[1].message, Hello)
    other = make_node(THEM, 7001)
    other.receive(US, effects[1].message, 0.0)
    effects = other.drain()
    assert effects[0] == Connect(US, "10.0.0.9", 7000)
    kinds = [type(e.message) for e in effects[1:] if isinstance(e, Send)]
    assert kinds == [Hello, Heartbeat]


def test_hellos_go_to_whom_we_do_not_hear_and_heartbeats_to_whom_we_do():
    node = make_node(US, 7000)
    node.seen(THEM, "10.0.0.2", 7001, 0.0)
    node.drain()
    node.handle_timer(HEARTBEAT_S)
    assert len(sends(node, Hello)) == 1
    node.receive(THEM, HELLO, 1.1)
    node.drain()
    node.handle_timer(2.1)
    (beat_sent,) = sends(node, Heartbeat)
    assert (beat_sent.available, beat_sent.why) == (True, "is free")
    node.handle_timer(2.1 + LOST_AFTER_S)
    assert len(sends(node, Hello)) == 1


def test_two_machines_cannot_echo_for_ever():
    """Each Hello is answered at once, but at most once a period."""
    node, other = make_node(US, 7000), make_node(THEM, 7001)
    node.seen(THEM, "10.0.0.2", 7001, 0.0)
    inbox, count = [(other, US, m.message) for m in node.drain() if isinstance(m, Send)], 0
    while inbox:
        target, sender, message = inbox.pop(0)
        count += 1
        assert count < 20
        target.receive(sender, message, 0.01)
        back, own = (node, THEM) if target is other else (other, US)
        inbox += [(back, own, e.message) for e in target.drain() if isinstance(e, Send)]
    assert node.site.peers.is_alive(THEM) and other.site.peers.is_alive(US)
