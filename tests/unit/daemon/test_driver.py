"""The driver between a real node, real links and real files: what its parts may not do to it."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest

from meshd.core.effects import Note
from meshd.core.errors import FailureError, UsageError
from meshd.core.messages import LocalBody
from meshd.core.node import Node
from meshd.core.site import Identity
from meshd.core.types import BlobId, JobId, MachineKey
from meshd.daemon import clock
from meshd.daemon.blobs import BlobStore
from meshd.daemon.disk import Disk
from meshd.daemon.driver import MAX_SIGHTINGS, Driver
from meshd.daemon.fetcher import Fetcher
from meshd.daemon.local_api import LocalApi
from meshd.daemon.state import open_state
from meshd.daemon.supervisor import Supervisor, WorkerSettings
from meshd.net.control import ControlLinks
from meshd.net.discovery import Found
from meshd.net.keys import load_or_create_keys
from meshd.net.local_server import LocalCommand
from meshd.net.roster import ROSTER_FILE, RosterFile, add_to_roster
from meshd.net.stream import frame

OTHER = MachineKey("0" * 40)


@pytest.fixture
def drive(tmp_path, run_async):
    """Run `async scene(driver)` with everything real but other machines."""

    def run(scene):
        async def main():
            state = open_state(tmp_path / "state")
            keys = load_or_create_keys(state.path)
            roster = RosterFile(state.path / ROSTER_FILE)
            links, disk = ControlLinks(keys, roster, "127.0.0.1", 0), Disk()
            await links.start()
            me = Identity(keys.public, "desk-1", "127.0.0.1", links.port, 1, "0.1", 1)
            driver = Driver(Node(me, clock.now()), links, roster, state, disk)
            store = BlobStore(state.blobs)
            settings = WorkerSettings(keys.public, "127.0.0.1", 1)
            supervisor = Supervisor(state, store, settings, print, state.append_log)
            driver.attach(store, Fetcher(store, links.send, str), supervisor)
            driver.start()
            try:
                await scene(driver)
            finally:
                await driver.close()
                await links.close()
                disk.close()
                state.close()

        run_async(main())

    return run


def test_a_machine_found_before_it_was_trusted_is_linked_when_it_is(drive):
    async def scene(driver):
        driver.seen(Found(OTHER, "127.0.0.1", 9, "desk-2"))
        assert driver.node.site.peers.get(OTHER) is None
        assert not driver.links.trouble(OTHER)
        add_to_roster(driver.state.path / ROSTER_FILE, "desk-2", OTHER)
        driver.check_roster()
        assert driver.node.site.peers.get(OTHER).linked
        assert "127.0.0.1, port 9" in driver.links.trouble(OTHER)

    drive(scene)


def test_a_broken_roster_is_logged_once_and_shown_until_it_is_repaired(drive, caplog):
    async def scene(driver):
        path = driver.state.path / ROSTER_FILE
        path.write_text("garbage")
        driver.check_roster()
        driver.check_roster()
        (line,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
        assert line.startswith("roster.toml cannot be used: not valid TOML")
        machine = driver.node.own_machine()
        assert not machine.available and line in machine.why
        path.write_text("")
        path.chmod(0o666)
        driver.check_roster()
        assert "chmod" in driver.node.own_machine().why
        path.chmod(0o600)
        driver.check_roster()
        assert driver.node.own_machine().available

    drive(scene)


def test_a_flood_of_announcements_is_bounded(drive):
    async def scene(driver):
        for number in range(MAX_SIGHTINGS + 50):
            driver.seen(Found(MachineKey(f"{number:040d}"), "127.0.0.1", 9, "x"))
        assert len(driver._sightings) == MAX_SIGHTINGS

    drive(scene)


@pytest.mark.parametrize("leaves", [True, False])
def test_a_caller_that_left_before_the_answer_has_submitted_nothing(drive, leaves):
    file = io.BytesIO()
    image, label = np.zeros((20, 4), np.uint8), np.arange(20) % 2
    np.savez(file, x_train=image, y_train=label, x_test=image, y_test=label)
    data = file.getvalue()
    spec = 'name = "j"\n[training]\nbatch = 10\n[mesh]\nmembers_min = 9\nmembers_max = 9\n'

    async def scene(driver):
        reader = asyncio.StreamReader()
        reader.feed_data(frame(LocalBody(data)) + frame(LocalBody(b"")))
        if leaves:
            reader.feed_eof()
        arguments = {"spec": spec, "data_bytes": len(data)}
        submitting = LocalApi(driver).submit(LocalCommand("submit", arguments, reader))
        if leaves:
            with pytest.raises(FailureError, match="broke off before its job was taken"):
                await submitting
        else:
            await submitting
        jobs = len(driver.node.site.registry)
        assert (jobs, any(driver.state.blobs.iterdir())) == (int(not leaves), not leaves)

    drive(scene)


def test_a_defect_is_told_so_that_the_daemon_ends_and_a_users_mistake_is_not(drive):
    async def scene(driver):
        told = []
        driver.on_defect = told.append
        with pytest.raises(UsageError), driver.feeding() as now:
            driver.node.cancel(JobId("0" * 32), now)
        assert told == []
        driver._perform[Note] = lambda effect: 1 / 0
        driver.node.site.out.add(Note("x"))
        with pytest.raises(ZeroDivisionError), driver.feeding():
            pass
        assert [type(error) for error in told] == [ZeroDivisionError]

    drive(scene)


def test_a_link_that_breaks_is_told_to_the_node_and_a_leave_ends_by_itself(drive):
    async def scene(driver):
        told = []
        driver.node.link = lambda key, is_up, now: told.append((key, is_up))
        driver.link_changed(OTHER, False)
        assert told == [(OTHER, False)]
        await driver.leave("was shut down")  # nothing runs: at once
        assert driver.node.left and driver.node.own_machine().why == "was shut down"

    drive(scene)


def test_the_timer_fires_by_itself(drive):
    async def scene(driver):
        fired = asyncio.Event()
        handle = driver.node.handle_timer

        def spy(now):
            handle(now)
            fired.set()

        driver.node.handle_timer = spy
        await fired.wait()
        fired.clear()
        await fired.wait()

    drive(scene)


def test_a_record_is_on_disk_after_a_flush(drive):
    async def scene(driver):
        spec = '{"name":"j"}'
        with driver.feeding() as now:
            record = driver.node.submit(spec, BlobId("ab" * 32), 10, 1.7e9, now)
        await driver.disk.flush()
        assert [r.job for r in driver.state.records()] == [record.job]
        assert driver.state.log_lines(record.job)

    drive(scene)
