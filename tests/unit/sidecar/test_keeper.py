"""From a plan to models that are ready to be loaded, with real files and a real HTTPS server."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import shutil
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from nereus.api.protocol import REPOSITORY, ModelPlan, ModelState
from nereus.sidecar.fetch import FetchContext, Limits
from nereus.sidecar.fetch.base import describe_os_error
from nereus.sidecar.keeper import Keeper
from nereus.sidecar.plan import AcceptedPlan
from nereus.sidecar.repository import Remembered, Repository
from nereus.sidecar.state import Board, Record

from .conftest import Site, until


@dataclass
class Pod:
    """A sidecar's disk and its keeper; `restart` is a container restart: the disk stays."""

    root: Path
    context: FetchContext = field(default_factory=FetchContext)
    keeper: Keeper = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        repository = Repository(self.root)
        repository.prepare()
        retry = (0.02, 0.05)
        self.keeper = Keeper(Board(), repository, self.context, look_seconds=0.05, retry_seconds=retry)

    async def restart(self) -> None:
        await self.keeper.close()
        self.start()

    def follow(self, *models: ModelPlan, revision: str = "r") -> None:
        self.keeper.follow(AcceptedPlan(revision=revision, models=models))

    def record(self, name: str = "m") -> Record:
        return self.keeper.board.records[name]

    async def reaches(self, state: ModelState, *, name: str = "m", words: str = "") -> Record:
        def there() -> bool:
            record = self.keeper.board.records.get(name)
            return record is not None and record.source_state is state and words in record.source_message

        await until(there, state=lambda: repr(self.keeper.board.records))
        return self.record(name)

    def staged(self) -> list[Path]:
        return list(self.keeper.repository.staging.iterdir())


@pytest.fixture
async def pods(tmp_path: Path) -> AsyncIterator[Callable[..., Pod]]:
    made: list[Pod] = []

    def make(context: FetchContext | None = None) -> Pod:
        root = tmp_path / f"models{len(made)}"
        root.mkdir()
        made.append(Pod(root, context or FetchContext()))
        return made[-1]

    yield make
    for pod in made:
        await pod.keeper.close()


@pytest.fixture
def web_pod(pods: Callable[..., Pod], site: Site) -> Pod:
    limits = Limits(connect_seconds=1, silence_seconds=0.5)
    return pods(FetchContext(tls=site.trusting, limits=limits))


def tarball(**files: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_dot_", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return target.getvalue()


def files_of(record: Record) -> dict[str, str]:
    assert record.wanted is not None
    return {
        f"{entry}/{path.name}": path.read_text()
        for entry, folder in record.wanted.entries.items()
        if folder.is_dir()
        for path in folder.iterdir()
    }


async def test_an_archive_from_the_web_becomes_a_model(web_pod: Pod, site: Site) -> None:
    site.serve("/resnet.tar.gz", tarball(resnet__config_dot_pbtxt="max_batch_size: 8", resnet__1__model_dot_py="one"))
    web_pod.follow(ModelPlan(name="m", source=site.url("/resnet.tar.gz"), fields_text="max_batch_size: 4"))
    record = await web_pod.reaches(ModelState.FETCHED)
    assert record.wanted is not None
    assert files_of(record) == {"1/model.py": "one"}
    assert record.wanted.config_text == 'name: "m"\nmax_batch_size: 4\n'
    assert record.wanted.conflicts == ("max_batch_size",)
    assert record.fetched_bytes
    assert record.fetched_bytes > 0
    assert web_pod.staged() == []


async def test_a_single_file_from_the_web_is_version_1_under_its_own_name(web_pod: Pod, site: Site) -> None:
    site.serve("/models/my model.onnx", b"weights")
    web_pod.follow(ModelPlan(name="m", source=site.url("/models/my%20model.onnx?token=secret")))
    assert files_of(await web_pod.reaches(ModelState.FETCHED)) == {"1/my model.onnx": "weights"}
    assert site.requests == ["/models/my%20model.onnx?token=secret"]


async def test_a_source_that_is_not_there_is_fetched_when_it_comes(web_pod: Pod, site: Site) -> None:
    web_pod.follow(ModelPlan(name="m", source=site.url("/late.onnx")))
    record = await web_pod.reaches(ModelState.FETCH_FAILED, words="404 Not Found: there is nothing at this address")
    assert record.tried
    assert record.wanted is None
    site.serve("/late.onnx", b"weights")
    assert files_of(await web_pod.reaches(ModelState.FETCHED)) == {"1/late.onnx": "weights"}
    assert record.source_message == ""


async def test_what_was_fetched_is_kept_when_the_container_restarts(web_pod: Pod, site: Site) -> None:
    site.serve("/m.onnx", b"weights")
    model = ModelPlan(name="m", source=site.url("/m.onnx"))
    web_pod.follow(model)
    before = (await web_pod.reaches(ModelState.FETCHED)).wanted
    await web_pod.restart()
    web_pod.follow(model)
    assert (await web_pod.reaches(ModelState.FETCHED)).wanted == before
    assert len(site.requests) == 1


async def test_two_models_of_one_address_are_fetched_once(web_pod: Pod, site: Site) -> None:
    site.serve("/m.onnx", b"weights")
    names = ("a", "b", "c")
    web_pod.follow(*(ModelPlan(name=name, source=site.url("/m.onnx")) for name in names))
    for name in names:
        assert files_of(await web_pod.reaches(ModelState.FETCHED, name=name)) == {"1/m.onnx": "weights"}
    assert len(site.requests) == 1


async def test_an_error_of_an_object_store_is_passed_on_in_its_words(web_pod: Pod, site: Site) -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message><AWSAccessKeyId>K</AWSAccessKeyId>"
    site.serve("/m.onnx", body, status=403)
    web_pod.follow(ModelPlan(name="m", source=site.url("/m.onnx?X-Signature=secret")))
    record = await web_pod.reaches(ModelState.FETCH_FAILED, words="AccessDenied: Request has expired")
    assert "403 Forbidden" in record.source_message
    assert "secret" not in record.source_message


async def test_a_download_that_breaks_off_leaves_nothing_behind(web_pod: Pod, site: Site) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"x" * 400)
        assert request.transport is not None
        request.transport.close()
        return answer

    site.routes["/m.onnx"] = broken
    web_pod.follow(ModelPlan(name="m", source=site.url("/m.onnx")))
    await web_pod.reaches(
        ModelState.FETCH_FAILED, words="closed before the file was complete (after 400 of 1000 bytes)"
    )
    site.serve("/m.onnx", b"whole")
    assert files_of(await web_pod.reaches(ModelState.FETCHED)) == {"1/m.onnx": "whole"}
    assert web_pod.staged() == []


async def test_a_server_that_says_nothing_is_given_up_on(web_pod: Pod, site: Site) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    site.routes["/m.onnx"] = silent
    web_pod.follow(ModelPlan(name="m", source=site.url("/m.onnx")))
    await web_pod.reaches(ModelState.FETCH_FAILED, words="no answer within")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/empty.onnx", b"", "is an empty file"),
        ("/page.tar.gz", b"<html>please log in</html>", "page.tar.gz is damaged or no such archive"),
        ("/hollow.tar.gz", tarball(), "holds no files"),
        ("/", b"x", "ends without a file name"),
    ],
    ids=["an empty file", "a login page", "an archive without files", "no file name"],
)
async def test_what_is_no_model_is_said(web_pod: Pod, site: Site, path: str, body: bytes, words: str) -> None:
    site.serve(path, body)
    web_pod.follow(ModelPlan(name="m", source=site.url(path)))
    await web_pod.reaches(ModelState.FETCH_FAILED, words=words)
    assert web_pod.staged() == []


async def test_a_redirect_away_from_https_is_not_followed(web_pod: Pod, site: Site) -> None:
    async def away(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"http://localhost:{site.port}/other")

    site.routes["/m.onnx"] = away
    web_pod.follow(ModelPlan(name="m", source=site.url("/m.onnx")))
    await web_pod.reaches(ModelState.FETCH_FAILED)
    assert web_pod.record().wanted is None


async def test_the_name_of_the_file_may_come_from_the_redirect(web_pod: Pod, site: Site) -> None:
    async def moved(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/files/model.pt")

    site.routes["/latest"] = moved
    site.serve("/files/model.pt", b"weights")
    web_pod.follow(ModelPlan(name="m", source=site.url("/latest")))
    assert files_of(await web_pod.reaches(ModelState.FETCHED)) == {"1/model.pt": "weights"}


async def test_a_certificate_that_nobody_vouches_for_is_said(pods: Callable[..., Pod], site: Site) -> None:
    pod = pods()
    site.serve("/m.onnx", b"weights")
    pod.follow(ModelPlan(name="m", source=site.url("/m.onnx")))
    await pod.reaches(ModelState.FETCH_FAILED, words="the certificate of localhost is not trusted")


async def test_a_host_that_dns_does_not_know_and_a_port_that_is_closed_are_said(web_pod: Pod) -> None:
    web_pod.follow(
        ModelPlan(name="dns", source="https://no-such-host.invalid/m.onnx"),
        ModelPlan(name="closed", source="https://localhost:1/m.onnx"),
    )
    await web_pod.reaches(ModelState.FETCH_FAILED, name="dns", words="no-such-host.invalid is not known to DNS")
    await web_pod.reaches(ModelState.FETCH_FAILED, name="closed", words="localhost:1")


async def test_a_model_that_does_not_fit_the_disk_is_refused_before_it_is_fetched(
    pods: Callable[..., Pod], site: Site
) -> None:
    pod = pods(FetchContext(tls=site.trusting, limits=Limits(free_reserve_bytes=1 << 62)))
    site.serve("/m.onnx", b"weights")
    pod.follow(ModelPlan(name="m", source=site.url("/m.onnx")))
    await pod.reaches(ModelState.FETCH_FAILED, words="has 7 bytes and the model volume has room for 0")


async def test_a_model_larger_than_allowed_is_refused_also_without_a_length(
    pods: Callable[..., Pod], site: Site
) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for _ in range(100):
            await answer.write(b"x" * 1000)
        return answer

    pod = pods(FetchContext(tls=site.trusting, limits=Limits(max_bytes=5000)))
    site.routes["/m.onnx"] = endless
    pod.follow(ModelPlan(name="m", source=site.url("/m.onnx")))
    await pod.reaches(ModelState.FETCH_FAILED, words="more than the allowed 5000 bytes")
    assert pod.staged() == []


def test_a_full_disk_is_said_with_its_remedy() -> None:
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")
    assert caught.value.errno == errno.ENOSPC
    words = describe_os_error(caught.value, "https://host/m.onnx")
    assert "the model volume is full; raise the pod's ephemeral storage" in words


def test_a_file_that_may_not_be_read_is_said_with_its_remedy() -> None:
    words = describe_os_error(PermissionError(errno.EACCES, "Permission denied", "/claim/m.onnx"), "pvc://claim/m.onnx")
    assert "/claim/m.onnx may not be used by user" in words
    assert "fsGroup" in words


async def test_a_scheme_that_this_sidecar_does_not_know_is_said_with_those_it_does(pods: Callable[..., Pod]) -> None:
    pod = pods()
    pod.follow(ModelPlan(name="m", source="ftp://host/m"))
    words = "configmap://, https://, pvc://, s3://, gs://, hf:// only"
    await pod.reaches(ModelState.FETCH_FAILED, words=words)


async def test_a_download_that_breaks_off_goes_on_where_it_ended(web_pod: Pod, site: Site) -> None:
    """And begins anew when the server says that it is another file by now."""
    body, asked, mark = bytes(range(256)) * 4096, [], '"one"'

    def arrived() -> int:
        return sum(file.stat().st_size for file in web_pod.keeper.repository.partial.rglob("*") if file.is_file())

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Range", ""))
        start = request.http_range.start or 0
        start = start if request.headers.get("If-Range") == mark else 0
        response = web.StreamResponse(status=206 if start else 200, headers={"ETag": mark})
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        response.content_length = len(body) - start
        await response.prepare(request)
        if len(asked) in (1, 2):
            await response.write(body[start : start + 300_000])
            await until(lambda: arrived() >= start + 300_000)  # an abort may overtake what is still on its way
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write(body[start:])
        return response

    site.routes["/m.onnx"] = answer
    web_pod.follow(ModelPlan(name="m", source=site.url("/m.onnx")))
    record = await web_pod.reaches(ModelState.FETCHED)
    assert asked == ["", "bytes=300000-", "bytes=600000-"]
    assert record.wanted is not None
    assert (record.wanted.entries["1"] / "m.onnx").read_bytes() == body
    assert list(web_pod.keeper.repository.partial.iterdir()) == []

    asked.clear()
    digest = hashlib.sha256(body[::-1]).hexdigest()
    web_pod.follow(ModelPlan(name="m", source=site.url("/m.onnx"), checksum=f"sha256:{digest}"))
    await web_pod.reaches(ModelState.FETCHING)
    await until(lambda: asked)
    mark, body = '"two"', body[::-1]
    record = await web_pod.reaches(ModelState.FETCHED)
    assert record.wanted is not None
    assert (record.wanted.entries["1"] / "m.onnx").read_bytes() == body


async def test_a_file_with_another_checksum_is_refused(web_pod: Pod, site: Site) -> None:
    site.serve("/m.onnx", b"weights")
    web_pod.follow(ModelPlan(name="m", source=site.url("/m.onnx"), checksum=f"sha256:{'0' * 64}"))
    await web_pod.reaches(ModelState.FETCH_FAILED, words="and source.checksum says sha256:0000")
    right = hashlib.sha256(b"weights").hexdigest()
    web_pod.follow(ModelPlan(name="m", source=site.url("/m.onnx"), checksum=f"sha256:{right}"))
    await web_pod.reaches(ModelState.FETCHED)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"token": "t0ken\n"}, "Bearer t0ken"),
        ({"username": "me", "password": "pässword"}, "Basic bWU6cMOkc3N3b3Jk"),
    ],
)
async def test_credentials_go_to_the_host_of_the_address_and_no_further(
    web_pod: Pod, site: Site, tmp_path: Path, keys: dict[str, str], expected: str
) -> None:
    seen: dict[str, str] = {}

    async def first(request: web.Request) -> web.Response:
        seen["first"] = request.headers.get("Authorization", "")
        raise web.HTTPFound(site.url("/m.onnx").replace("localhost", "127.0.0.1"))

    async def second(request: web.Request) -> web.Response:
        seen["second"] = request.headers.get("Authorization", "")
        return web.Response(body=b"weights")

    site.routes |= {"/first/m.onnx": first, "/m.onnx": second}
    for key, value in keys.items():
        (tmp_path / key).write_text(value)
    assert web_pod.context.tls is not None
    web_pod.context.tls.check_hostname = False
    web_pod.follow(ModelPlan(name="m", source=site.url("/first/m.onnx"), credentials=str(tmp_path)))
    await web_pod.reaches(ModelState.FETCHED)
    assert seen == {"first": expected, "second": ""}


async def test_a_secret_without_the_keys_of_https_is_said(web_pod: Pod, site: Site, tmp_path: Path) -> None:
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("x")
    web_pod.follow(ModelPlan(name="m", source=site.url("/m.onnx"), credentials=str(tmp_path)))
    await web_pod.reaches(ModelState.FETCH_FAILED, words="no key username and no key password, which https:// needs")


def repository_of(source: str, **more: Any) -> ModelPlan:
    return ModelPlan(name=REPOSITORY, source=source, repository=True, **more)


async def test_a_whole_repository_becomes_the_models_it_holds(web_pod: Pod, site: Site) -> None:
    """The next one replaces it model by model; one that is broken changes nothing."""
    site.serve(
        "/one.tgz", tarball(zoo__a__config_dot_pbtxt="max_batch_size: 1", zoo__a__1__m_dot_py="a", zoo__b__1__m="b")
    )
    site.serve("/two.tgz", tarball(b__1__m="new b", c__2__m="c", README="about"))
    site.serve("/one-model.tgz", tarball(config_dot_pbtxt="", **{"1__m": "x"}))
    site.serve("/nothing.tgz", tarball(notes__readme="x", README="about"))
    web_pod.follow(repository_of(site.url("/one.tgz")))
    assert web_pod.keeper.board.report().models[0].name == REPOSITORY
    await web_pod.reaches(ModelState.FETCHED, name=REPOSITORY)
    assert files_of(await web_pod.reaches(ModelState.FETCHED, name="a")) == {"1/m.py": "a"}
    assert files_of(await web_pod.reaches(ModelState.FETCHED, name="b")) == {"1/m": "b"}
    assert web_pod.keeper.board.moments.fetched_at is not None

    web_pod.follow(repository_of(site.url("/one-model.tgz")), revision="broken")
    await web_pod.reaches(ModelState.FETCH_FAILED, name=REPOSITORY, words="is one model and no repository of models")
    web_pod.follow(repository_of(site.url("/nothing.tgz")), revision="empty")
    await web_pod.reaches(ModelState.FETCH_FAILED, name=REPOSITORY, words="here is README, notes")
    assert not any(web_pod.record(name).removing for name in ("a", "b"))

    web_pod.follow(repository_of(site.url("/two.tgz")), revision="two")
    await until(lambda: web_pod.record("a").removing)
    await until(lambda: files_of(web_pod.record("b")) == {"1/m": "new b"})
    assert files_of(await web_pod.reaches(ModelState.FETCHED, name="c")) == {"2/m": "c"}
    await until(lambda: web_pod.keeper.in_use() is not None)
    web_pod.keeper.repository.drop_sources(web_pod.keeper.in_use() or ())
    assert files_of(web_pod.record("b")) == {"1/m": "new b"}


async def test_after_a_restart_nothing_is_unloaded_before_the_repository_is_known(web_pod: Pod, site: Site) -> None:
    site.serve("/zoo.tgz", tarball(a__1__m="a", b__1__m="b"))
    web_pod.follow(repository_of(site.url("/zoo.tgz")))
    record = await web_pod.reaches(ModelState.FETCHED, name="a")
    web_pod.keeper.repository.remember("a", Remembered(on_disk=record.wanted.digest, loaded="x", served=True))  # type: ignore[union-attr]
    site.routes.clear()
    await web_pod.restart()
    web_pod.follow(repository_of(site.url("/zoo.tgz")))
    assert "a" not in web_pod.keeper.board.records
    await web_pod.reaches(ModelState.FETCHED, name=REPOSITORY)
    assert web_pod.record("a").served
    assert not web_pod.record("a").removing


async def test_a_model_that_is_added_to_a_repository_on_a_claim_is_noticed(
    pods: Callable[..., Pod], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / "claim/zoo" / name / "1").mkdir(parents=True)
        (tmp_path / "claim/zoo" / name / "1/m").write_text(name)
    pod = pods()
    pod.follow(repository_of("pvc://claim/zoo", directory=str(tmp_path / "claim/zoo")))
    await pod.reaches(ModelState.FETCHED, name="b")
    (tmp_path / "claim/new/1").mkdir(parents=True)
    (tmp_path / "claim/new/1/m").write_text("c")
    (tmp_path / "claim/new").rename(tmp_path / "claim/zoo/c")
    await until(lambda: "c" in pod.keeper.board.records)
    assert files_of(await pod.reaches(ModelState.FETCHED, name="c")) == {"1/m": "c"}
    shutil.rmtree(tmp_path / "claim/zoo/a")
    await until(lambda: pod.record("a").removing)
    assert not pod.record("b").removing


def config_map(folder: Path, **keys: str) -> Path:
    """A ConfigMap volume as the kubelet makes it: files are links through `..data`, which is swapped."""
    folder.mkdir(exist_ok=True)
    age = folder / f"..{len(list(folder.iterdir()))}"
    age.mkdir()
    for key, text in keys.items():
        name = key.replace("_dot_", ".")
        (age / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(age.name)
    (folder / "..new").rename(folder / "..data")
    return folder


async def test_the_keys_of_a_config_map_say_where_a_file_belongs(pods: Callable[..., Pod], tmp_path: Path) -> None:
    folder = config_map(
        tmp_path / "cm", config_dot_pbtxt='backend: "python"', model_dot_py="one", v2_dot_model_dot_py="two"
    )
    pod = pods()
    pod.follow(ModelPlan(name="m", source="configmap://cm", directory=str(folder)))
    record = await pod.reaches(ModelState.FETCHED)
    assert files_of(record) == {"1/model.py": "one", "2/model.py": "two"}
    assert record.wanted is not None
    assert 'backend: "python"' in record.wanted.config_text


@pytest.mark.parametrize("mounted_as", ["cm", "cm/net"])
async def test_a_prefix_chooses_the_keys_of_one_model(
    pods: Callable[..., Pod], tmp_path: Path, mounted_as: str
) -> None:
    config_map(tmp_path / "cm", net_dot_model_dot_py="net", other_dot_model_dot_py="other", net_dot_config_dot_pbtxt="")
    pod = pods()
    pod.follow(ModelPlan(name="m", source="configmap://cm/net", directory=str(tmp_path / mounted_as)))
    assert files_of(await pod.reaches(ModelState.FETCHED)) == {"1/model.py": "net"}


async def test_a_config_map_that_is_missing_or_has_no_such_key_is_said(
    pods: Callable[..., Pod], tmp_path: Path
) -> None:
    folder = config_map(tmp_path / "cm", model_dot_py="x")
    pod = pods()
    pod.follow(
        ModelPlan(name="gone", source="configmap://gone", directory=str(tmp_path / "gone")),
        ModelPlan(name="prefix", source="configmap://cm/net", directory=str(folder)),
    )
    await pod.reaches(ModelState.FETCH_FAILED, name="gone", words="ConfigMap gone does not exist in this namespace")
    await pod.reaches(ModelState.FETCH_FAILED, name="prefix", words="has no key net.*; its keys are model.py")


async def test_a_changed_config_map_is_taken_and_one_that_is_only_written_anew_is_not(
    pods: Callable[..., Pod], tmp_path: Path
) -> None:
    folder = config_map(tmp_path / "cm", model_dot_py="one")
    pod = pods()
    pod.follow(ModelPlan(name="m", source="configmap://cm", directory=str(folder)))
    before = (await pod.reaches(ModelState.FETCHED)).wanted
    config_map(folder, model_dot_py="one")
    await asyncio.sleep(0.3)  # several looks: nothing may happen, so there is no condition to wait for
    assert pod.record().wanted == before
    config_map(folder, model_dot_py="two")
    await until(lambda: files_of(pod.record()) == {"1/model.py": "two"}, state=lambda: repr(pod.record()))
    assert pod.record().wanted != before


async def test_a_claim_is_served_in_place_and_a_change_counts_when_it_has_come_to_rest(
    pods: Callable[..., Pod], tmp_path: Path
) -> None:
    claim = tmp_path / "claim"
    (claim / "1").mkdir(parents=True)
    (claim / "1/model.onnx").write_text("one")
    pod = pods()
    pod.follow(ModelPlan(name="m", source="pvc://claim/", directory=str(claim)))
    record = await pod.reaches(ModelState.FETCHED)
    assert record.wanted is not None
    assert dict(record.wanted.entries) == {"1": claim / "1"}
    before = record.wanted
    (claim / "1/__pycache__").mkdir()  # what Triton leaves behind
    (claim / "1/__pycache__/model.pyc").write_text("x")
    await asyncio.sleep(0.3)  # several looks: nothing may happen, so there is no condition to wait for
    assert record.wanted is before
    for size in range(20):  # somebody uploads version 2
        (claim / "2").mkdir(exist_ok=True)
        (claim / "2/model.onnx").write_text("x" * size)
        await asyncio.sleep(0.01)
    await until(lambda: record.wanted is not before and record.source_state is ModelState.FETCHED)
    assert set(record.wanted.entries) == {"1", "2"}
    assert list(pod.keeper.repository.sources.iterdir()) == []


async def test_a_single_file_on_a_claim_is_version_1(pods: Callable[..., Pod], tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("weights")
    (tmp_path / "empty.pt").touch()
    pod = pods()
    pod.follow(
        ModelPlan(name="m", source="pvc://c/model.pt", directory=str(tmp_path / "model.pt")),
        ModelPlan(name="empty", source="pvc://c/empty.pt", directory=str(tmp_path / "empty.pt")),
        ModelPlan(name="gone", source="pvc://c/gone", directory=str(tmp_path / "gone")),
    )
    assert files_of(await pod.reaches(ModelState.FETCHED)) == {"1/model.pt": "weights"}
    await pod.reaches(ModelState.FETCH_FAILED, name="empty", words="is an empty file")
    await pod.reaches(ModelState.FETCH_FAILED, name="gone", words="does not exist")


async def test_a_configuration_that_cannot_be_read_names_its_layer_and_place(
    pods: Callable[..., Pod], tmp_path: Path
) -> None:
    folder = config_map(tmp_path / "cm", config_dot_pbtxt="max_batchsize: 3", model_dot_py="x")
    pod = pods()
    pod.follow(
        ModelPlan(name="source", source="configmap://cm", directory=str(folder)),
        ModelPlan(name="user", source="configmap://cm", directory=str(folder), config_text="\n ???"),
    )
    await pod.reaches(
        ModelState.CONFIG_INVALID, name="source", words="config.pbtxt of the source: line 1, column 1: unknown field"
    )


async def test_an_ensemble_needs_no_files_and_anything_else_does(pods: Callable[..., Pod], tmp_path: Path) -> None:
    ensemble = config_map(tmp_path / "e", config_dot_pbtxt='ensemble_scheduling { step { model_name: "a" } }')
    plain = config_map(tmp_path / "p", config_dot_pbtxt='backend: "python"')
    pod = pods()
    pod.follow(
        ModelPlan(name="ensemble", source="configmap://e", directory=str(ensemble)),
        ModelPlan(name="plain", source="configmap://p", directory=str(plain)),
    )
    record = await pod.reaches(ModelState.FETCHED, name="ensemble")
    assert record.wanted is not None
    assert record.wanted.entries["1"].is_dir()
    await pod.reaches(ModelState.CONFIG_INVALID, name="plain", words="no model file; only an ensemble has none")


async def test_a_changed_document_is_prepared_anew_and_the_others_are_left_alone(
    pods: Callable[..., Pod], tmp_path: Path
) -> None:
    folder = config_map(tmp_path / "cm", model_dot_py="x")
    a = ModelPlan(name="a", source="configmap://cm", directory=str(folder))
    b = ModelPlan(name="b", source="configmap://cm", directory=str(folder))
    pod = pods()
    pod.follow(a, b, revision="1")
    await pod.reaches(ModelState.FETCHED, name="a")
    before = (await pod.reaches(ModelState.FETCHED, name="b")).wanted
    changed = ModelPlan(name="a", source="configmap://cm", directory=str(folder), fields_text="max_batch_size: 2")
    pod.follow(changed, b, revision="2")

    def is_new() -> bool:
        wanted = pod.record("a").wanted
        return wanted is not None and "max_batch_size: 2" in wanted.config_text

    await until(is_new)
    assert pod.record("b").wanted is before
    pod.follow(b, revision="3")
    assert pod.record("a").removing
    assert not pod.record("b").removing
