"""An OCI image archive of one static program, written without a container engine.

For the two images that the cluster itself needs before anything else can be built: pause and CoreDNS. Everything with
more than one file is built by `builders`. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EPOCH = "1970-01-01T00:00:00Z"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def write_program_image(
    program: Path, *, image: str, archive: Path, folder: str = "", libraries: Sequence[Path] = ()
) -> None:
    """Write an archive with an image whose entry point is `program`, in `folder`; `libraries` keep their paths."""
    where = f"{folder}/{program.name}".lstrip("/")
    content = {str(path).lstrip("/"): (path.read_bytes(), 0o755) for path in libraries}
    layer = _tar({**content, where: (program.read_bytes(), 0o755)})
    config = _json(
        {
            "created": EPOCH,
            "architecture": machine_architecture(program),
            "os": "linux",
            "config": {"Entrypoint": [f"/{where}"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            "history": [{"created": EPOCH, "created_by": "nereus localcluster"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    annotations = {"org.opencontainers.image.ref.name": image, "io.containerd.image.name": image}
    index = {"schemaVersion": 2, "manifests": [{**_descriptor(MANIFEST_TYPE, manifest), "annotations": annotations}]}
    files = {"oci-layout": (_json({"imageLayoutVersion": "1.0.0"}), 0o644), "index.json": (_json(index), 0o644)}
    for blob in (layer, config, manifest):
        files[f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"] = (blob, 0o644)
    archive.parent.mkdir(parents=True, exist_ok=True)
    temporary = archive.with_name(f".{archive.name}.new")
    temporary.write_bytes(_tar(files))
    temporary.rename(archive)


def machine_architecture(program: Path) -> str:
    """The architecture of an ELF program as OCI names it."""
    with program.open("rb") as file:
        header = file.read(20)
    names = {0x3E: "amd64", 0xB7: "arm64"}
    return names[int.from_bytes(header[18:20], "little")]


def archive_images(archive: Path) -> dict[str, str]:
    """The names of the images in an OCI archive and the digests of their manifests."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile("index.json")
        assert member is not None
        index = json.load(member)
    found = {}
    for manifest in index["manifests"]:
        name = manifest.get("annotations", {}).get("org.opencontainers.image.ref.name")
        if name:
            found[name] = manifest["digest"]
    return found


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
