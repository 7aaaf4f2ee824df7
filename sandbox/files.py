"""Where the sandbox host keeps what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Files:
    """The files of one sandbox; `folder` is `.tollgate/sandbox`."""

    folder: Path

    @property
    def settings(self) -> Path:
        return self.folder / "settings.env"

    @property
    def tls(self) -> Path:
        return self.folder / "tls"

    @property
    def activity(self) -> Path:
        """Touched when the sandbox is used."""
        return self.folder / "activity"

    @property
    def data(self) -> Path:
        return self.folder / "gateway"

    @property
    def database(self) -> Path:
        return self.data / "gateway.sqlite"

    @property
    def record(self) -> Path:
        """Pid, addresses and control token of the host that runs, or ran last."""
        return self.data / "host.json"

    @property
    def log(self) -> Path:
        return self.data / "host.log"

    @property
    def starting(self) -> Path:
        """Locked by whoever starts or ends the host."""
        return self.data / "starting.lock"

    @property
    def running(self) -> Path:
        """Locked by the host for its life; holds its pid."""
        return self.data / "running.lock"
