"""The files of `containers/`: what they name fits together, and their commands run as they stand there, without Docker."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from serving import TOKEN, build_index, wait_until
from thorough import thorough_only

from colbert_video import VideoColBERT

yaml = pytest.importorskip("yaml")
CONTAINERS = ROOT / "containers"
if not CONTAINERS.is_dir():
    pytest.skip("an installed copy", allow_module_level=True)
SERVICES: dict[str, Any] = yaml.safe_load((CONTAINERS / "compose.yaml").read_text(encoding="utf-8"))["services"]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, lines joined and comments dropped."""
    lines = [line for line in (CONTAINERS / "Dockerfile").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())
    ]


def last(word: str) -> str:
    return [rest for name, rest in instructions() if name == word][-1]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("containers")
    return build_index(folder / "my.index", VideoColBERT.from_pretrained("toy", device="cpu"), folder / "videos")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as port:
        return port.getsockname()[1]


def here(arguments: list[str], index: Path, port: int) -> list[str]:
    """A command of the container with the paths, address and program of this machine."""
    places = {"/indexes/my.index": str(index), "/videos": str(index.parent / "videos"), "0.0.0.0": "127.0.0.1"}
    places |= {"8000": str(port), "/tmp/copies": str(index.parent / "copies")}
    texts = [re.sub(r"\$\{HOST_NAME:-(\w+)\}", r"\1", text) for text in arguments]
    swapped = ["=".join(places.get(part, part) for part in text.split("=")) for text in texts]
    return [sys.executable, "-m", "colbert_video", *swapped]


def test_the_image_is_small_and_runs_without_rights() -> None:
    stages = [rest for word, rest in instructions() if word == "FROM"]
    assert len(stages) == 2
    assert all("-slim" in stage for stage in stages)
    assert last("USER") == "10001:10001"
    assert "--uid 10001" in next(rest for word, rest in instructions() if word == "RUN" and "useradd" in rest)
    assert json.loads(last("VOLUME")) == ["/indexes", "/cache"]
    made = next(rest for word, rest in instructions() if "install -d" in rest)
    assert "install -d -o colbert -g colbert /indexes /cache /videos" in made
    assert "HOME=/cache" in last("ENV")
    assert last("EXPOSE") == "8000"


def test_what_the_image_copies_is_let_through() -> None:
    """The sources, and all that setup.py reads; nothing else goes to the builder."""
    lines = (CONTAINERS / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    let = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "**"
    assert {"colbert_video", "indexing", "training", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= let
    assert all((ROOT / name).exists() for name in let)
    named = set(re.findall(r"containers/[\w.]+", " ".join(rest for word, rest in instructions() if word == "RUN")))
    assert named <= let


@thorough_only
@pytest.mark.slow
@pytest.mark.parametrize("place", ["Dockerfile", "compose.yaml"])
def test_the_command_serves_and_the_health_check_sees_it(index: Path, place: str) -> None:
    port, entry = free_port(), json.loads(last("ENTRYPOINT"))
    assert entry == ["colbert-video"]
    command = json.loads(last("CMD")) if place == "Dockerfile" else SERVICES["search"]["command"]
    check = json.loads(re.search(r"CMD (\[.*\])", last("HEALTHCHECK"))[1])  # type: ignore[index]
    check = [sys.executable, *(text.replace(":8000/", f":{port}/") for text in check[1:])]
    environment = {**os.environ, "COLBERT_VIDEO_TOKEN": TOKEN, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    assert subprocess.run(check, check=False, capture_output=True).returncode != 0
    with subprocess.Popen(here(command, index, port), env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"serving http://127.0.0.1:{port}/\n"
            assert subprocess.run(check, check=False, capture_output=True).returncode == 0
        finally:
            process.terminate()
        assert process.wait(30) == 0


def test_the_services_of_compose_fit_together() -> None:
    search, proxy, metrics = SERVICES["search"], SERVICES["proxy"], SERVICES["metrics"]
    assert (
        CONTAINERS / search["build"]["context"] / search["build"]["dockerfile"]
    ).resolve() == CONTAINERS / "Dockerfile"
    assert "ports" not in search  # others reach it by the proxy alone
    assert [text for text in search["command"] if text.startswith("--allowed-host=")][-1] == "--allowed-host=search"
    inside = {volume.rsplit(":", 2 if volume.endswith(":ro") else 1)[1] for volume in search["volumes"]}
    assert inside == {"/indexes", "/cache", "/videos"}
    for service in (proxy, metrics):
        own = [volume.split(":")[0] for volume in service["volumes"] if volume.startswith("./")]
        assert own
        assert all((CONTAINERS / name).is_file() for name in own)
    assert proxy["depends_on"]["search"]["condition"] == "service_healthy"
    jobs = yaml.safe_load((CONTAINERS / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert jobs[0]["static_configs"][0]["targets"] == ["search:8000"]
    assert jobs[0]["authorization"]["credentials_file"] == f"/run/secrets/{metrics['secrets'][0]}"
    assert "proxy_pass http://search:8000/;" in (CONTAINERS / "nginx.conf").read_text(encoding="utf-8")


def test_the_page_names_what_there_is() -> None:
    page = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"containers/([\w.]+\.\w+|Dockerfile)", page)):
        assert (CONTAINERS / name).is_file(), name
    for block in re.findall(r"docker compose .*? run --rm search (.*)", page) + re.findall(
        r"colbert-video (index .*)", page
    ):
        assert shlex.split(block)[0] == "index"


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, index: Path) -> Iterator[dict[str, Any]]:
    """A service, and nginx before it with the file of compose, whose names and ports are this machine's."""
    from page_browser import running

    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None or shutil.which("openssl") is None:
        pytest.skip("needs nginx and openssl")
    folder, http, https = tmp_path_factory.mktemp("nginx"), free_port(), free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    added = folder / "added"
    added.mkdir()
    with running([index], add_roots=(added,), token=TOKEN, allowed_hosts=("localhost",)) as address:
        site = (CONTAINERS / "nginx.conf").read_text(encoding="utf-8")
        for old, new in {
            "http://search:8000/": address, "/etc/nginx/tls": str(folder), "listen 80;": f"listen 127.0.0.1:{http};",
            "listen 443 ssl": f"listen 127.0.0.1:{https} ssl", "client_header_timeout 10s": "client_header_timeout 1s",
        }.items():  # fmt: skip
            assert old in site
            site = site.replace(old, new)
        (folder / "site.conf").write_text(site)
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;\n"
            f"events {{}}\nhttp {{ access_log off; {temporary} include {folder}/site.conf; }}\n"
        )
        with subprocess.Popen(
            [program, "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"]
        ) as process:
            try:
                wait_until(lambda: _listens(https) or process.poll() is not None)
                assert process.poll() is None, (folder / "error.log").read_text()
                yield {"http": http, "https": https, "cert": folder / "cert.pem", "added": added, "service": address}
            finally:
                process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def client(nginx: dict[str, Any]) -> Iterator[Any]:
    """A client that trusts the certificate and has the token."""
    import ssl

    import httpx2

    trusted = ssl.create_default_context(cafile=nginx["cert"])
    known = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(
        base_url=f"https://localhost:{nginx['https']}/", verify=trusted, headers=known, timeout=60
    ) as made:
        yield made


def test_everything_is_below_the_prefix(nginx: dict[str, Any], client: Any) -> None:
    import httpx2

    page = client.get("videos/")
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    linked = re.findall(r'(?:src|href)="([^"#:]+)"', page.text)
    assert linked
    assert all(client.get(f"videos/{name}").status_code == 200 for name in linked)
    assert client.get("videos").headers["location"].endswith("localhost/videos/")
    assert client.get("healthz").status_code == 404
    found = client.get("videos/api/search", params={"query": "a red picture", "k": 2}).json()["topk"]
    assert len(found) == 2
    assert client.get("videos/" + found[0]["thumbnail"].lstrip("/")).headers["content-type"] == "image/jpeg"
    assert client.get("videos/api/indexes", headers={"Authorization": ""}).status_code == 401
    plain = httpx2.get(f"http://localhost:{nginx['http']}/videos/?q=1")
    assert (plain.status_code, plain.headers["location"]) == (301, "https://localhost/videos/?q=1")


def test_the_cookie_is_for_https_alone(client: Any) -> None:
    answer = client.post("videos/api/login", json={"token": TOKEN}, headers={"Authorization": ""})
    assert answer.status_code < 300
    assert "secure" in answer.headers["set-cookie"].lower()


def test_ranges_and_head_go_through(client: Any, index: Path) -> None:
    whole, place = (index.parent / "videos" / "blue.mp4").read_bytes(), "videos/api/video/media?id=blue"
    assert client.get(place).content == whole
    part = client.get(place, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    head = client.head(place)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole)))
    assert client.get(place, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416


def test_large_files_are_sent(client: Any, index: Path, nginx: dict[str, Any]) -> None:
    """Larger than nginx admits by default (1 MB)."""
    body = (index.parent / "videos" / "red.mp4").read_bytes()
    body += (8 + 3 * 2**20).to_bytes(4, "big") + b"free" + bytes(3 * 2**20)
    answer = client.post("videos/api/additions/file", params={"name": "sent.mp4"}, content=body)
    assert answer.status_code == 202, answer.text
    assert (nginx["added"] / "sent.mp4").read_bytes() == body


def raw(nginx: dict[str, Any]) -> Any:
    import ssl

    plain = socket.create_connection(("127.0.0.1", nginx["https"]), timeout=20)
    return ssl.create_default_context(cafile=nginx["cert"]).wrap_socket(plain, server_hostname="localhost")


def test_slow_clients_are_served_and_silent_ones_let_go(nginx: dict[str, Any], index: Path) -> None:
    import time

    whole = (index.parent / "videos" / "blue.mp4").read_bytes()
    head = f"GET /videos/api/video/media?id=blue HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    with raw(nginx) as slow:
        for part in (head[:9], head[9:40], head[40:]):
            slow.sendall(part.encode())
            time.sleep(0.1)
        received = b""
        while block := slow.recv(len(whole) // 4):
            received += block
            time.sleep(0.05)
    assert received.partition(b"\r\n\r\n")[2] == whole
    with raw(nginx) as silent:
        silent.sendall(head[:30].encode())
        began = time.monotonic()
        rest = silent.recv(1000)  # nothing, or 408
        assert rest == b"" or b" 408 " in rest
        assert time.monotonic() - began < 15
