"""A broker that speaks TLS and wants a user with a password (SCRAM), with a certificate of an authority made for it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from tests.kafka.broker import HOST, Broker, free_ports

USER: Final = "fraud-worker"
#: Iterations of SCRAM: Kafka's least.
_ITERATIONS = 4096


class SecuredBroker(Broker):
    """A broker with a second listener at `secured`: SASL_SSL. The first one is open, for the tests themselves."""

    def __init__(self, directory: Path, password: str, more: Mapping[str, str] | None = None) -> None:
        self.authority = Authority(directory / "authority")
        first, second = free_ports(2).values()
        self.secured, self._password = f"{HOST}:{second[0]}", password
        super().__init__(
            directory,
            ports={1: first},
            options={
                "listeners": f"PLAINTEXT://{HOST}:{first[0]},CONTROLLER://{HOST}:{first[1]},SECURED://{self.secured}",
                "advertised.listeners": f"PLAINTEXT://{HOST}:{first[0]},SECURED://{self.secured}",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL",
                "listener.name.secured.sasl.enabled.mechanisms": "SCRAM-SHA-256",
                "listener.name.secured.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
                "listener.name.secured.ssl.keystore.type": "PEM",
                "listener.name.secured.ssl.keystore.location": str(self.authority.server(directory / "server.pem")),
                **(more or {}),
            },
        )

    def start(self) -> None:
        """Start it, and make the user."""
        super().start()
        credentials = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, _ITERATIONS)
        wanted = UserScramCredentialUpsertion(USER, credentials, self._password.encode())
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2})
        admin.alter_user_scram_credentials([wanted])[USER].result(30)


class Authority:
    """Signs certificates; `certificate` is its own, for those who trust it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.certificate, self._key = directory / "ca.pem", directory / "ca.key"
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.certificate, "-days", 2, "-subj", f"/CN={directory.name}")

    def server(self, file: Path) -> Path:
        """Write key and certificate of a server at `HOST` into one file, as Kafka wants them."""
        key, asked, signed, names = (file.with_suffix(suffix) for suffix in (".key", ".csr", ".crt", ".ext"))
        names.write_text(f"subjectAltName=IP:{HOST},DNS:localhost\n")
        _openssl("req", *_NEW_KEY, "-keyout", key, "-out", asked, "-subj", "/CN=localhost")
        authority = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial")
        _openssl("x509", "-req", "-in", asked, *authority, "-extfile", names, "-days", 2, "-out", signed)
        file.write_text(key.read_text() + signed.read_text())
        return file


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
