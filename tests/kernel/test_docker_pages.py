"""The pages about docker show what happens: their commands run beside a real docker, whose host is a namespace."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.documents.samples import ROOT, blocks, fits, scene
from tests.support.run.warm import COLD
from tests.support.servers.docker import NEEDED, Docker, OnHost, docker_in
from tests.support.servers.engines import needs, pack_image

pytestmark = [pytest.mark.kernel, pytest.mark.daemon, pytest.mark.usefixtures("engines"), needs(*NEEDED, "curl")]
PAGES = ("docker-ports.md", "docker-restarts.md")
HERE = f"tests/kernel/{Path(__file__).name} runs it"
SERVES = 'CMD ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/tmp"]'


@pytest.fixture
def docker(tmp_path_factory: pytest.TempPathFactory, make_lab_name: Callable[[], str]) -> Iterator[Docker]:
    """With docker's own rules, and an image `nginx` that serves at port 80."""
    folder = tmp_path_factory.mktemp("docker")
    with docker_in(folder, make_lab_name(), {}) as docker:
        subprocess.run(["ip", "-n", docker.place, "link", "set", "lo", "up"], check=True)
        docker("import", "--change", SERVES, str(pack_image(folder / "served.tar")), "nginx")
        yield docker


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_is_printed(page: str, docker: Docker, tmp_path: Path) -> None:
    shown = [block for block in blocks(ROOT / "docs" / page) if block.about == HERE]
    assert len(shown) > 1
    with scene(tmp_path, COLD, with_root=True) as found:
        host = OnHost(found, docker)
        for block in shown:
            for command, output in block.commands():
                printed = host.run(command)
                assert fits(output, printed), f"{command}\n{printed}"
        assert found.left == []
