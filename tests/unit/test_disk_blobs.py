"""The media folder."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from wahub.adapters.disk_blobs import DiskBlobs
from wahub.domain.ids import InstanceId, MessageId

SHOP, OTHER = InstanceId("shop"), InstanceId("other")


@pytest.fixture
def blobs(tmp_path: Path) -> DiskBlobs:
    return DiskBlobs(tmp_path / "media")


def put(blobs: DiskBlobs, name: str, data: bytes, instance: InstanceId = SHOP) -> str:
    path, target = blobs.place(instance, MessageId(name))
    target.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["3EB0", "../../etc/passwd", "/abs", "", "a\0b", "\ud800"])
def test_whatever_a_message_is_called_its_file_is_in_the_folder_of_its_instance(
    blobs: DiskBlobs, tmp_path: Path, name: str
) -> None:
    path, target = blobs.place(SHOP, MessageId(name))
    assert target.parent == tmp_path / "media" / "shop"
    assert target.is_absolute() and str(target).endswith(path)
    assert target.parent.stat().st_mode & 0o777 == 0o700
    assert blobs.find(path) is None
    target.write_bytes(b"x")
    assert blobs.find(path) == target


def test_files_and_folders_come_and_go(blobs: DiskBlobs) -> None:
    assert (list(blobs.instances()), list(blobs.files(SHOP))) == ([], [])
    kept, gone = put(blobs, "a", b"1"), put(blobs, "b", b"2")
    put(blobs, "a", b"3", OTHER)
    os.utime(blobs.find(kept) or "", (5, 5))
    assert list(blobs.instances()) == [OTHER, SHOP]
    assert {blob.path for blob in blobs.files(SHOP)} == {kept, gone}
    assert [blob.changed_at for blob in blobs.files(SHOP) if blob.path == kept] == [5.0]
    blobs.remove(gone)
    blobs.remove(gone)
    assert [blob.path for blob in blobs.files(SHOP)] == [kept]
    blobs.remove(kept)
    assert list(blobs.instances()) == [OTHER]
    blobs.forget(OTHER)
    blobs.forget(OTHER)
    assert list(blobs.instances()) == []


def _picture(kind: str) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(made, kind)
    return made.getvalue()


def _archive(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return made.getvalue()


DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("data", "is_one", "is_none"),
    [
        (_picture("JPEG"), "image/jpeg", "text/html"),
        (_picture("PNG"), "image/png", "image/jpeg"),
        (_picture("WEBP"), "image/webp", "audio/wav"),
        (b"%PDF-1.7\n%\xe2\xe3\n" + bytes(50), "application/pdf", "text/html"),
        (b"OggS\0\2" + bytes(20) + b"\x01\x13OpusHead\1\1" + bytes(50), "application/ogg", "image/jpeg"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(50), "video/mp4", "image/jpeg"),
        (_archive("word/document.xml"), DOCX, "text/html"),
        (b"<!DOCTYPE html><html><script>x</script>", "text/html", "image/jpeg"),
    ],
    ids=["jpeg", "png", "webp", "pdf", "ogg", "mp4", "docx", "html"],
)
def test_the_first_bytes_tell_what_a_file_may_be(blobs: DiskBlobs, data: bytes, is_one: str, is_none: str) -> None:
    types = blobs.types(put(blobs, "a", data + bytes(20_000)))
    assert is_one in types
    assert is_none not in types
    assert "" not in types


@pytest.mark.parametrize("data", [b"", b"\0", bytes(range(256))], ids=["empty", "one byte", "noise"])
def test_bytes_that_say_nothing_have_no_type(blobs: DiskBlobs, data: bytes) -> None:
    assert blobs.types(put(blobs, "a", data)) == frozenset()


def test_a_file_that_is_not_there_has_no_types(blobs: DiskBlobs) -> None:
    path, _ = blobs.place(SHOP, MessageId("a"))
    with pytest.raises(FileNotFoundError):
        blobs.types(path)
