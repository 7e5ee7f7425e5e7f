"""Files, names and texts as somebody with bad intent would make them; a canary shows whether code ran."""

from __future__ import annotations

import builtins
import contextlib
import functools
import gzip
import json
import os
import pickle
import resource
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Calls:
    """Calls ``function`` when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


class SetsState:
    """Calls through the state that an allowed class is built with."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.utils.data.TensorDataset, (), {"tensors": (self.inner,)}


def payloads(canary: Path) -> dict[str, object]:
    """Return name → object that makes the file ``canary`` when a careless reader loads it."""
    code = f"open({str(canary)!r}, 'w').close()"
    shell = f"touch '{canary}'"
    system = Calls(os.system, shell)
    return {
        "os.system": system,
        "eval": Calls(eval, code),
        "exec": Calls(exec, code),
        "subprocess": Calls(subprocess.call, ["touch", str(canary)]),
        "a partial": Calls(functools.partial(os.system, shell)),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "an import": Calls(builtins.__import__, "canary_module"),
        "in a list in a dict": {"model": {"weight": [torch.ones(2), system]}},
        "as a key": {(1, system): torch.ones(2)},
        "in the state of a class that may be read": SetsState(system),
        "a second load": Calls(torch.load, str(canary.with_suffix(".second"))),
        "an array of objects": np.array([system], dtype=object),
    }


# these do harm of another kind, or need something beside them; all others make the canary sing by themselves
SILENT = {
    "getattr",
    "an import",
    "a second load",
    "a second pickle in the zip",
    "a program of TorchScript",
    "a name in capitals",
    "an old pickle before the zip",
    "two directories",
}
MUCH = 50_000_000  # bytes that a pickle of thirty asks for; weights_only has nothing against it


def hostile_files(folder: Path, canary: Path) -> dict[str, Path]:
    """Write the payloads into ``folder``, as ``torch.save`` and as other tools lay them out; name → file."""
    files = {}
    every = payloads(canary)
    for number, (name, payload) in enumerate(every.items()):
        files[name] = folder / f"payload{number}.pt"
        torch.save({"input_ids": payload, "attention_mask": payload}, files[name])
    system = every["os.system"]
    for name, protocol in (("an old pickle", 2), ("a new pickle", 4)):
        files[name] = folder / f"{name.replace(' ', '_')}.pt"
        files[name].write_bytes(pickle.dumps(system, protocol=protocol))
    files["torch's old format"] = folder / "legacy.pt"
    torch.save({"x": system}, files["torch's old format"], _use_new_zipfile_serialization=False)
    files["a newer pickle in the zip"] = folder / "protocol.pt"
    torch.save({"x": system}, files["a newer pickle in the zip"], pickle_protocol=4)
    files["a second pickle in the zip"] = folder / "second.pt"
    torch.save({"x": torch.ones(2)}, files["a second pickle in the zip"])
    with zipfile.ZipFile(files["a second pickle in the zip"], "a") as archive:
        archive.writestr("second/data.pkl", pickle.dumps(system, protocol=2))
        archive.writestr("other.pkl", pickle.dumps(system, protocol=2))
    files["a program of TorchScript"] = folder / "script.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(files["a program of TorchScript"]))
    return files | two_faced_files(folder)


def two_faced_files(folder: Path) -> dict[str, Path]:
    """Write files that torch reads in another way than Python's zipfile, and that take much memory there."""
    greedy, harmless = pickle.dumps(Calls(bytearray, MUCH), protocol=2), pickle.dumps({"x": 1}, protocol=2)
    capitals = folder / "capitals.pt"
    write_archive(capitals, "a/data.PKL", greedy)
    before = folder / "before.pt"
    write_archive(before, "a/data.pkl", harmless)
    zipped = before.read_bytes()
    torch.save(Calls(bytearray, MUCH), before, _use_new_zipfile_serialization=False)
    before.write_bytes(before.read_bytes() + zipped)
    two = folder / "two.pt"
    write_two_directories(two, for_torch=greedy, for_zipfile=harmless)
    return {
        "a name in capitals": capitals,
        "an old pickle before the zip": before,
        "two directories": two,
    }


def write_archive(path: Path, name: str, pickled: bytes) -> None:
    """Write what ``torch.save`` would, with this pickle under this name."""
    with zipfile.ZipFile(path, "w") as archive:
        for record, content in ((name, pickled), ("a/version", b"3\n"), ("a/byteorder", b"little")):
            archive.writestr(record, content)


def write_two_directories(path: Path, *, for_torch: bytes, for_zipfile: bytes) -> None:
    """Write two archives, one after the other, whose end names the directory of the first.

    torch goes where the end says. zipfile takes the directory right before the end, and adds to all places by
    how far that is from the one named.
    """
    bodies, directories = [], []
    for pickled in (for_torch, for_zipfile):
        write_archive(path, "a/data.pkl", pickled)
        whole = path.read_bytes()
        size, start = struct.unpack_from("<LL", whole, len(whole) - 10)
        bodies.append(whole[:start])
        directories.append(bytearray(whole[start : start + size]))
    first = len(bodies[0]) + len(directories[0])
    added = first + len(bodies[1]) - len(bodies[0])
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    place = 0
    for record in records:  # 46 bytes, then the name; at 42 the place of the record
        struct.pack_into("<L", directories[1], place + 42, record.header_offset + first - added)
        place += 46 + len(record.filename)
    count = len(records)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directories[0]), len(bodies[0]), 0)
    path.write_bytes(bodies[0] + directories[0] + bodies[1] + directories[1] + end)


@contextlib.contextmanager
def little_memory(extra: int = 1 << 30) -> Iterator[None]:
    """Let this process take no more than ``extra`` bytes of address space beyond what it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def write_zip_bomb(path: Path) -> None:
    """Write a ``.pt`` a thousandth as long as the record of zeros that a reader would have to inflate."""
    torch.save({"input_ids": torch.zeros(1), "attention_mask": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
        with archive.open(f"{path.stem}/data/9", "w", force_zip64=True) as stream:
            zeros = bytes(1 << 24)
            for _ in range(12):  # 200 MB: more would only take the test longer
                stream.write(zeros)


def write_expanded_tensor(path: Path) -> None:
    """Write a ``.pt`` of a few bytes whose tensor claims 10^15 of them."""
    ids = torch.zeros(1, dtype=torch.int64).expand(10**6, 10**9)
    torch.save({"input_ids": ids, "attention_mask": torch.zeros(1, dtype=torch.bool).expand(ids.shape)}, path)


def write_safetensors_bomb(path: Path, *, header_bytes: int | None = None) -> None:
    """Write a safetensors file whose header claims a tensor of 4 TB, or claims to be so long itself."""
    claim = {"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    header = json.dumps(claim).encode("ascii")
    path.write_bytes(struct.pack("<Q", header_bytes or len(header)) + header + bytes(16))


def write_gzip_bomb(path: Path, *, megabytes: int) -> None:
    """Write a compressed line of JSON about a thousand times as long as its file."""
    with gzip.open(path, "wb", compresslevel=9) as stream:
        stream.write(b'{"text": "')
        for _ in range(megabytes):
            stream.write(b"a" * (1 << 20))
        stream.write(b'"}\n')


def yaml_bomb() -> str:
    """Return 400 bytes of YAML that expand to 10^9 nodes."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join(lines) + "\n"


NAMES = [
    "../evil",
    "..",
    ".",
    "/tmp/evil",
    "a/b",
    "a\\b",
    "",
    " ",
    ".hidden",
    "-flag",
    "a" * 300,
    "nul",
    "COM1.txt",
    "a\nb",
    "a\x1b[2J",
    "ends.",
    "<script>",
    "$(id)",
    "~root",
    "ünicode",
]

TEXTS = {
    "html": "<script>alert(1)</script>",
    "attribute": "\"><img src=x onerror='alert(1)'>",
    "end of json": "</script><script>alert(2)</script>",
    "formula": "=cmd|' /C calc'!A0",
    "formula with a sign": "+1+1",
    "formula with at": "@SUM(1)",
    "terminal": "\x1b[2J\x1b]0;owned\x07",
    "rich markup": "[bold red]big[/bold red][link=file:///etc/passwd]x[/link]",
    "broken markup": "[/nothing] [unclosed",
    "direction": "\u202eevil\u202c",
    "new line": "one\ntwo",
    "carriage return": "hidden\rshown",
    "path": "../../../../tmp/evil",
    "yaml": "no: {a: &x 1, b: *x}",
    "end of code": "x` <script>alert(3)</script> ``` <b>bold</b> `",
    "blank lines": "a\n\n<script>alert(4)</script>\n\n# big",
    "percent": "%s %(name)s {0} {}",
}
