"""A JupyterHub with the gateway as a service: people sign in at the hub, the gateway knows them.

The service is external: it is started as `codesign serve --config gateway.toml` beside the hub, with

    identity = "jupyterhub"
    [hub]
    api_url = "http://127.0.0.1:8081/hub/api"                   # as the gateway reaches the hub
    base_url = "https://hub.example.org/hub/"                   # as browsers reach it
    callback_url = "https://codesign.example.org/oauth_callback"  # of the gateway, as browsers reach it
    client_id = "service-codesign"
    service = "codesign"
    api_token_file = "hub-token"                                # the secret below, readable by the gateway only
    [hub_roles]
    admin = "admin"                                             # administrators of the hub
    "group:teachers" = "admin"
    "*" = "user"                                                # everybody whom the hub lets use the service

Replace what is marked; the environment overrides it, by which the project's own test runs this very file.
"""

import os
from pathlib import Path

c = get_config()  # noqa: F821 - JupyterHub gives it


def _of(name: str, usual: str) -> str:
    return os.environ.get(f"CODESIGN_HUB_{name}", usual)


# where browsers reach the hub, and where its own parts do
c.JupyterHub.bind_url = _of("BIND_URL", "http://127.0.0.1:8000")
c.JupyterHub.hub_bind_url = _of("HUB_BIND_URL", "http://127.0.0.1:8081")
c.JupyterHub.db_url = _of("DB_URL", "sqlite:///jupyterhub.sqlite")
c.JupyterHub.cookie_secret_file = _of("COOKIE_SECRET_FILE", "jupyterhub_cookie_secret")
c.ConfigurableHTTPProxy.api_url = _of("PROXY_API_URL", "http://127.0.0.1:8001")
c.ConfigurableHTTPProxy.command = [_of("PROXY", "configurable-http-proxy")]
c.ConfigurableHTTPProxy.pid_file = _of("PROXY_PID_FILE", "jupyterhub-proxy.pid")

# REPLACE: the class that knows your people; this one believes everybody who has the one password
c.JupyterHub.authenticator_class = _of("AUTHENTICATOR", "dummy")
c.DummyAuthenticator.password = os.environ.get("CODESIGN_HUB_PASSWORD", "")
c.Authenticator.allow_all = True
c.Authenticator.admin_users = set(_of("ADMINS", "teacher").split(","))
c.JupyterHub.spawner_class = "jupyterhub.spawner.SimpleLocalProcessSpawner"

# the secret that hub and gateway share: made by `openssl rand -hex 32 > hub-token; chmod 600 hub-token`
c.JupyterHub.services = [
    {
        "name": "codesign",
        "api_token": Path(_of("TOKEN_FILE", "hub-token")).read_text().strip(),
        "oauth_client_id": "service-codesign",
        "oauth_redirect_uri": _of("CALLBACK_URL", "https://codesign.example.org/oauth_callback"),
        # who comes to the service has agreed to it by that
        "oauth_no_confirm": True,
        # so that the gateway learns groups and who administers; of themselves only
        "oauth_client_allowed_scopes": ["read:users:groups!user"],
    }
]
# who may use the service: everybody who may use the hub
c.JupyterHub.load_roles = [{"name": "user", "scopes": ["self", "access:services!service=codesign"]}]
