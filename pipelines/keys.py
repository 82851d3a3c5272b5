"""The key pair that lets a run's scheduler, workers and client know one another, and shuts everybody else out.

Whoever may talk to a Dask scheduler or worker may run code as its owner, and the ports of a shared machine are open to
all of its users. So every connection is TLS, and both of its ends must show the certificate of this one run.
"""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed.security import Security

from provabgs.core.errors import ConfigError, MissingDependencyError

CERTIFICATE_NAME, KEY_NAME = "certificate.pem", "key.pem"
VALID_DAYS = 365
CLOCK_SKEW_DAYS = 1
"""A node whose clock is behind must not take the certificate for one of the future."""


def make_pair() -> tuple[str, str]:
    """A new self-signed certificate and its private key, in PEM; raises MissingDependencyError without cryptography."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError as error:
        raise MissingDependencyError(
            f"keys cannot be made ({error}): pip install cryptography, or set [cluster] tls = false, which lets every "
            "user of the machine in"
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provabgs-run")])
    now = datetime.datetime.now(tz=datetime.UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only",
         "decipher_only"), False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=CLOCK_SKEW_DAYS))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        # the extensions that a strict verifier (Python 3.13's default) wants of its own authority
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def security(certificate: str, key: str) -> Security:
    """Dask's settings for one pair in all roles: encryption required, and no other certificate believed.

    Parameters
    ----------
    certificate, key
        PEM texts, or paths of files that hold them.
    """
    roles = {f"tls_{role}_{what}": value for role in ("client", "scheduler", "worker")
             for what, value in (("cert", certificate), ("key", key))}  # fmt: skip
    return Security(require_encryption=True, tls_ca_file=certificate, **roles)


def write_pair(folder: Path) -> Security:
    """Make a pair for processes that start elsewhere, in a folder that only its owner may enter.

    Raises
    ------
    ConfigError
        When the folder cannot be made, or belongs to another user.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise ConfigError(f"{folder}: belongs to another user; keys written there would be theirs")
        folder.chmod(0o700)
        for name, text in zip((CERTIFICATE_NAME, KEY_NAME), make_pair(), strict=True):
            (folder / name).unlink(missing_ok=True)
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{folder}: keys cannot be written ({error.strerror})") from None
    return security(str(folder / CERTIFICATE_NAME), str(folder / KEY_NAME))


def read_pair(folder: Path) -> Security:
    """The pair that `write_pair` left in a folder.

    Raises
    ------
    ConfigError
        When there is none, or when its key may be read by others.
    """
    for name in (CERTIFICATE_NAME, KEY_NAME):
        try:
            with (folder / name).open() as file:
                mode = os.fstat(file.fileno()).st_mode
        except OSError as error:
            raise ConfigError(
                f"{folder / name}: {error.strerror}; `provabgs cluster keys {folder}` makes a pair"
            ) from None
        if mode & 0o077:
            raise ConfigError(f"{folder / name}: others than its owner may read it; chmod 600 it, or make a new pair")
    return security(str(folder / CERTIFICATE_NAME), str(folder / KEY_NAME))


@contextmanager
def pair_in(folder: Path) -> Iterator[Security]:
    """A pair that lasts as long as the context."""
    made = write_pair(folder)
    try:
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)
