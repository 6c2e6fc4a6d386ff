"""``codesign serve``: the gateway, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import sys
import webbrowser
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from codesign_kernel.cli.output import Answer, plain, rows_text
from codesign_kernel.errors import MissingPackageError


def _own_jupyter(data: Path) -> None:
    """Point Jupyter's libraries away from the user's settings and files: those are not the gateway's.

    Raises:
        MissingPackageError: this package's own part for pages is not there.
    """
    # found and not imported: it brings plotly and ipywidgets, which kernels need and the gateway does not
    widgets = find_spec("codesign_widgets")
    if widgets is None or widgets.origin is None:
        raise MissingPackageError(
            "codesign serve needs the package codesign_widgets, which comes with codesign-playground; install it again"
        )
    home = data / "jupyter"
    home.mkdir(exist_ok=True, mode=0o700)
    os.environ |= {
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_PATH": str(Path(widgets.origin).parent),
        "JUPYTER_PREFER_ENV_PATH": "1",
        **{f"JUPYTER_{name}_DIR": str(home) for name in ("CONFIG", "DATA", "RUNTIME")},
        "IPYTHONDIR": str(home),
    }


def serve_answer(args: argparse.Namespace) -> Answer:
    """Serve until told to stop.

    Raises:
        CodesignError: the gateway cannot start; the message says why.
    """
    if missing := [name for name in ("voila", "limits", "argon2", "prometheus_client") if find_spec(name) is None]:
        raise MissingPackageError(
            f"codesign serve needs {', '.join(missing)}; pip install 'codesign-playground[serve]'"
        )
    from codesign_kernel.server.folder import nobody_else, private
    from codesign_kernel.server.settings import read_settings

    settings = read_settings(args.config, host=args.host, port=args.port, apps_dir=args.apps, data_dir=args.data)
    if settings.cluster_workers and find_spec("distributed") is None:
        raise MissingPackageError("cluster_workers needs distributed; pip install 'codesign-playground[scale]'")
    _own_jupyter(private(settings))
    from codesign_kernel.server.app import serve

    def announce(told: Mapping[str, Any]) -> None:
        told = {**told, "log": str(settings.log_file or "")}
        print(json.dumps(plain(told), indent=2) if args.json else _block(told), flush=True)
        if args.open:
            webbrowser.open(str(told["login"]))

    def ending() -> None:
        if sys.stderr.isatty():
            print("Stopping: kernels and jobs end first, which takes some seconds.", file=sys.stderr, flush=True)

    if settings.log_file is None and sys.stderr.isatty():  # somebody looks at it, and wants to see the address
        settings = replace(settings, log_file=settings.file("gateway.log"))
    with nobody_else():
        serve(settings, announce, ending)
    return Answer("The gateway has stopped.", {"stopped": True})


def _block(told: Mapping[str, Any]) -> str:
    rows = [
        ("gateway", told["login"]),
        ("sign-in", told["identity"]),
        ("sandbox", told["sandbox"]),
        ("apps", ", ".join(told["apps"]) or "none"),
        *([("not served", ", ".join(told["unserved"]) + ": no scope file")] if told["unserved"] else []),
        ("data", told["data"]),
        *([("log", told["log"])] if told["log"] else []),
        ("stop", "Ctrl-C"),
    ]
    return rows_text(rows)
