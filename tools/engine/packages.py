"""Fetches the engine's packages and a small Debian for base images, once, into the user's cache.

Both come from the mirror that this machine's apt is configured for, through an apt with private state:
nothing is installed, and the machine's own package lists are not changed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

SUITE = "trixie"
ENGINE = ("containerd", "docker-buildx", "docker-cli", "docker-compose", "docker.io", "tini")
BASE = ("busybox", "ca-certificates", "python3")
"""Packages that the base images have in addition to a minimal Debian."""
POSTGRES = "postgresql-17"
"""The package of the Postgres image, of the major version that the stack's files pin."""
POSTGRES_USER = "postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/sh\n"
"""As in the official image."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = Path("/etc/apt")


class FetchError(Exception):
    """Packages cannot be fetched; the message says why."""


def mirror(folder: Path = SOURCES) -> str:
    """The URL of Debian's archive in the machine's own sources. Raises FetchError."""
    for file in sorted((folder / "sources.list.d").glob("*.sources")):
        for stanza in file.read_text(encoding="utf-8").split("\n\n"):
            found = re.search(r"^URIs:\s*(\S+/debian)/?(?:\s|$)", stanza, flags=re.MULTILINE)
            if found:
                return found[1]
    lists = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]
    for file in (file for file in lists if file.is_file()):
        text = file.read_text(encoding="utf-8")
        if found := re.search(r"^deb\s+(?:\[.*?\]\s+)?(\S+/debian)/?\s", text, flags=re.MULTILINE):
            return found[1]
    raise FetchError(f"no Debian archive among the sources in {folder}")


class Packages:
    """The engine's programs and the base system, below one folder of the cache."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        wanted = " ".join((SUITE, *ENGINE))
        self.root = folder / f"engine-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
        """Where the engine's packages are unpacked."""
        wanted = " ".join((SUITE, *BASE))
        self.base = folder / f"base-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}.tar"
        """The base system's files."""
        digest = hashlib.sha256(f"{self.base.name} {POSTGRES}".encode()).hexdigest()[:8]
        self.postgres = folder / f"postgres-{digest}.tar"
        """The base system with a Postgres server, without what its installation would run."""

    def fetch(self) -> None:
        """Fetch what is missing. Raises FetchError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self.root.exists():
            self._fetch_engine()
        if not self.base.exists():
            self._make_base()
        if not self.postgres.exists():
            self._add_postgres()

    def _fetch_engine(self) -> None:
        draft = _empty(self._folder / "draft")
        debs = draft / "debs"
        debs.mkdir()
        apt = self._apt(draft)
        _run([*apt, "update"], debs)
        _run([*apt, "download", *ENGINE], debs)
        for deb in sorted(debs.glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(deb), str(draft / "root")], debs)
        (draft / "root").rename(self.root)
        shutil.rmtree(draft)

    def _apt(self, draft: Path, installed: Path | None = None) -> list[str]:
        """An apt command that knows only one suite and uses its own folder.

        Args:
            draft: the folder.
            installed: the status file of a system that has packages; by default there are none.
        """
        for name in ("parts", "lists/partial", "cache/archives/partial"):
            (draft / name).mkdir(parents=True)
        if installed is not None:
            shutil.copyfile(installed, draft / "status")
        else:
            (draft / "status").touch()
        (draft / "parts" / "suite.sources").write_text(
            f"Types: deb\nURIs: {mirror()}\nSuites: {SUITE}\nComponents: main\n"
            f"Signed-By: {KEYRING}\n",
            encoding="utf-8",
        )
        places = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": draft / "parts",
            "Dir::State::lists": draft / "lists",
            "Dir::State::status": draft / "status",
            "Dir::Cache": draft / "cache",
            "APT::Sandbox::User": "root",
        }
        options = [word for key, value in places.items() for word in ("-o", f"{key}={value}")]
        return ["apt-get", "--quiet=2", *options]

    def _make_base(self) -> None:
        draft = _empty(self._folder / "draft-base")
        words = ["--variant=minbase", f"--include={','.join(BASE)}"]
        _run(["debootstrap", *words, SUITE, str(draft / "root"), mirror()], draft)
        root = draft / "root"
        for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
            shutil.rmtree(root / waste, ignore_errors=True)
        new = draft / "base.tar"
        with tarfile.open(new, "w") as archive:
            archive.add(root, arcname=".", filter=lambda entry: None if entry.isdev() else entry)
        new.rename(self.base)
        shutil.rmtree(draft)

    def _add_postgres(self) -> None:
        """Unpacked only: its installation scripts would create a cluster and start it."""
        draft = _empty(self._folder / "draft-postgres")
        root = draft / "root"
        root.mkdir()
        _run(["tar", "--extract", f"--file={self.base}", f"--directory={root}"], draft)
        apt = self._apt(draft, root / "var/lib/dpkg/status")
        _run([*apt, "update"], draft)
        words = ("--yes", "--download-only", "--no-install-recommends")
        _run([*apt, "install", *words, POSTGRES], draft)
        for deb in sorted((draft / "cache" / "archives").glob("*.deb")):
            # dpkg-deb would replace the links of a merged /usr by folders; tar follows them.
            unpack = (
                f"dpkg-deb --fsys-tarfile '{deb}' | tar -x --keep-directory-symlink -C '{root}'"
            )
            _run(["sh", "-euc", unpack], draft)
        with (root / "etc/passwd").open("a", encoding="utf-8") as users:
            users.write(POSTGRES_USER)
        for waste in ("usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(root / waste, ignore_errors=True)
        new = draft / "postgres.tar"
        with tarfile.open(new, "w") as archive:
            archive.add(root, arcname=".")
        new.rename(self.postgres)
        shutil.rmtree(draft)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise FetchError(f"`{command[0]}` failed: {tail}")
