"""Nobody but the run itself may talk to its scheduler and workers: strangers without a key, or with another, fail."""

from __future__ import annotations

import asyncio
import os
import pwd
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client
from distributed.comm import connect
from distributed.security import Security

from provabgs.core.errors import ConfigError
from provabgs.pipelines.cluster_options import ClusterOptions
from provabgs.pipelines.clusters import open_cluster
from provabgs.pipelines.keys import CERTIFICATE_NAME, KEY_NAME, make_pair, pair_in, read_pair, security, write_pair

STRANGER = Security(require_encryption=False)


def enters(address: str, keys: Security) -> bool:
    """Whether Dask's own handshake with an address succeeds."""

    async def attempt() -> bool:
        try:
            comm = await asyncio.wait_for(connect(address, timeout=3, **keys.get_connection_args("client")), 5)
        except OSError:
            return False
        comm.abort()
        return True

    return asyncio.run(attempt())


def listening() -> list[tuple[str, int]]:
    """Addresses and ports on which this process and its children listen."""
    me = psutil.Process()
    found = []
    for process in [me, *me.children(recursive=True)]:
        connections = [c for c in process.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
        found += [(c.laddr.ip, c.laddr.port) for c in connections]
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with open_cluster(ClusterOptions(workers=1), 2, tmp_path_factory.mktemp("run")) as client:
        yield client


def addresses(client: Client) -> list[str]:
    info = client.scheduler_info(n_workers=-1)
    return [info["address"], *info["workers"], *(w["nanny"] for w in info["workers"].values())]


def test_strangers_are_refused_everywhere(cluster: Client) -> None:
    assert cluster.submit(len, "abc").result() == 3
    everywhere = addresses(cluster)
    assert len(everywhere) == 3
    own = cluster.security
    foreign = security(*make_pair())
    for address in everywhere:
        assert address.startswith("tls://127.0.0.1:")
        assert enters(address, own)  # the test can tell
        assert not enters(address, foreign)
        assert not enters(address.replace("tls://", "tcp://"), STRANGER)
    with pytest.raises((OSError, RuntimeError, TypeError)):
        Client(everywhere[0], timeout=3)


KNOCK = """
import socket, ssl, sys
host, port, *keys = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if keys:
    context.load_cert_chain(*keys)
with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain) as s:
    print("let in" if s.recv(1) else "closed")
"""
SYSTEM_PYTHON = Path("/usr/bin/python3")


@pytest.mark.skipif(os.getuid() != 0 or not SYSTEM_PYTHON.exists(), reason="only root can be somebody else")
def test_another_user_is_refused(cluster: Client, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    keys = cluster.security
    files = []
    for name, text in (("c.pem", keys.tls_client_cert), ("k.pem", keys.tls_client_key)):
        (tmp_path / name).write_text(text)
        files.append(str(tmp_path / name))
    for address in addresses(cluster):
        host, port = address.removeprefix("tls://").split(":")
        knock = [str(SYSTEM_PYTHON), "-c", KNOCK, host, port]
        owner = subprocess.run([*knock, *files], capture_output=True, text=True, timeout=60)
        assert owner.stdout == "let in\n", owner.stderr  # the test can tell
        stranger = subprocess.run(
            knock, user=nobody.pw_uid, group=nobody.pw_gid, cwd="/", capture_output=True, text=True, timeout=60
        )
        assert "let in" not in stranger.stdout
        assert "alert" in stranger.stderr.lower() or stranger.stdout == "closed\n", stranger.stderr


def test_other_ports_only_show_pages_to_this_machine(cluster: Client) -> None:
    known = {int(a.rpartition(":")[2]) for a in addresses(cluster)}
    others = [(ip, port) for ip, port in listening() if port not in known]
    assert others  # the dashboard
    assert {ip for ip, _ in listening()} == {"127.0.0.1"}
    for _, port in others:
        assert not enters(f"tcp://127.0.0.1:{port}", STRANGER)


def test_without_tls_anybody_enters(tmp_path: Path) -> None:
    with open_cluster(ClusterOptions(workers=1, tls=False), 2, tmp_path) as client:
        assert enters(client.scheduler_info()["address"], STRANGER)


def test_keys_of_batch_jobs_are_their_owners_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        with pair_in(tmp_path / "keys") as keys:
            assert keys.require_encryption
            folder = tmp_path / "keys"
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            for name in (CERTIFICATE_NAME, KEY_NAME):
                assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
            if os.getuid() == 0:
                nobody = pwd.getpwnam("nobody")
                done = subprocess.run(
                    ["cat", str(folder / KEY_NAME)], user=nobody.pw_uid, group=nobody.pw_gid, capture_output=True
                )
                assert done.returncode != 0
                assert b"PRIVATE" not in done.stdout
        assert not folder.exists()
    finally:
        os.umask(before)


def test_keys_that_others_could_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"provabgs cluster keys"):
        read_pair(tmp_path / "keys")
    write_pair(tmp_path / "keys")
    assert read_pair(tmp_path / "keys").require_encryption
    (tmp_path / "keys" / KEY_NAME).chmod(0o640)
    with pytest.raises(ConfigError, match=r"key.pem: others .* chmod 600"):
        read_pair(tmp_path / "keys")


def test_a_strict_verifier_takes_the_certificate(tmp_path: Path) -> None:
    write_pair(tmp_path / "keys")
    certificate, key = (str(tmp_path / "keys" / n) for n in (CERTIFICATE_NAME, KEY_NAME))
    sides = []
    for purpose in (ssl.Purpose.SERVER_AUTH, ssl.Purpose.CLIENT_AUTH):
        context = ssl.create_default_context(purpose, cafile=certificate)
        context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_cert_chain(certificate, key)
        sides.append(context)
    client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
    client = sides[0].wrap_bio(client_in, client_out)
    server = sides[1].wrap_bio(server_in, server_out, server_side=True)
    done = set()
    for _ in range(6):
        for name, side in (("client", client), ("server", server)):
            try:
                side.do_handshake()
                done.add(name)
            except ssl.SSLWantReadError:
                pass
            server_in.write(client_out.read())
            client_in.write(server_out.read())
    assert done == {"client", "server"}
