"""What a disk may hold after a power cut, given the system calls that came before it.

The model is that of POSIX at its most adverse. What was written to a file lasts once fsync of the file has
returned; before that each piece may be there or not, zeros may stand in its place, or the file may be
shorter. A name, or its change, lasts once fsync of the folder has returned; before that each change may have
happened or not, whatever the order they were made in, but a rename is one change. "Renames before data" is
one such state. File systems promise more; nothing here relies on it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePosixPath
from random import Random

CALLS = (
    "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,lseek,"
    "write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,splice,fallocate,mmap,"
    "truncate,ftruncate,fsync,fdatasync,sync,syncfs,sync_file_range,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,access"
)
OPTIONS = ["-xx", "-s", "100000000", "-e", f"trace={CALLS}"]

_LINE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_ALL_SUBSETS_UP_TO = 4
_PAGE = 4096


@dataclass
class Inode:
    """A file: what has been written to it since its beginning, and how much of that is safe."""

    number: int
    pieces: list[tuple[int, bytes | None]] = field(default_factory=list)  # offset and data; None: cut there
    safe: int = 0  # so many of the pieces were there at the last fsync

    def content(self, pieces: list[tuple[int, bytes | None]]) -> bytes:
        data = bytearray()
        for offset, piece in pieces:
            if piece is None:
                del data[offset:]
                data.extend(bytes(offset - len(data)))
            else:
                data.extend(bytes(max(offset - len(data), 0)))
                data[offset : offset + len(piece)] = piece
        return bytes(data)


@dataclass
class Change:
    """One change of names, as one step: path → inode number, None where the name goes away."""

    names: dict[str, int | None]
    folders: set[str]  # that have not been synced since


@dataclass
class Descriptor:
    path: str
    inode: Inode | None  # None: a folder
    position: int = 0
    appends: bool = False


class Disk:
    """Follows the calls on the files under ``root``, and says what a power cut could leave of them."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.inodes: list[Inode] = []
        self.names: dict[str, int] = {}  # as the running system sees them
        self.safe_names: dict[str, int] = {}
        self.pending: list[Change] = []
        self.open: dict[int, Descriptor] = {}
        self.fsyncs = 0
        for path in sorted(root.rglob("*")):
            if path.is_file():
                inode = self._new_inode()
                inode.pieces, inode.safe = [(0, path.read_bytes())], 1
                self.names[str(path)] = self.safe_names[str(path)] = inode.number

    def _new_inode(self) -> Inode:
        self.inodes.append(Inode(len(self.inodes)))
        return self.inodes[-1]

    def content(self, path: str) -> bytes | None:
        """Return what the running system reads from ``path``."""
        if (number := self.names.get(path)) is None:
            return None
        return self.inodes[number].content(self.inodes[number].pieces)

    def apply(self, line: str) -> bool:
        """Follow one line of strace's record; return whether it changed what a power cut could leave."""
        match = _LINE.match(line)
        if match is None or int(match[3]) < 0:
            return False
        name, result = match[1], int(match[3])
        arguments = [_text(part) for part in match[2].split(", ")]
        method = getattr(self, f"_{name}", None)
        if method is not None:
            return bool(method(arguments, result))
        if name in ("sync", "syncfs", "mmap") or not self._concerns(arguments):
            return False
        raise NotImplementedError(f"the model of the disk does not know this call: {line[:200]}")

    def _concerns(self, arguments: list[str | bytes]) -> bool:
        paths = [os.fsdecode(part) for part in arguments if isinstance(part, bytes)]
        numbers = [int(part) for part in arguments[:2] if isinstance(part, str) and part.isdigit()]
        return any(map(self._inside, paths)) or any(number in self.open for number in numbers)

    def _inside(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + "/")

    # The calls: each takes strace's arguments (strings as bytes) and the result; whether a state has changed.

    def _openat(self, arguments: list[str | bytes], result: int) -> bool:
        path, flags = self._path(arguments), str(arguments[2]).split("|")
        self.open.pop(result, None)
        if not self._inside(path):
            return False
        if "O_DIRECTORY" in flags or (path not in self.names and "O_CREAT" not in flags):
            self.open[result] = Descriptor(path, None)
            return False
        changed = False
        if path not in self.names:
            self._change({path: self._new_inode().number})
            changed = True
        inode = self.inodes[self.names[path]]
        if "O_TRUNC" in flags and inode.pieces:
            inode.pieces.append((0, None))
            changed = True
        self.open[result] = Descriptor(path, inode, appends="O_APPEND" in flags)
        return changed

    def _close(self, arguments: list[str | bytes], result: int) -> bool:
        self.open.pop(int(arguments[0]), None)
        return False

    def _fcntl(self, arguments: list[str | bytes], result: int) -> bool:
        if str(arguments[1]).startswith("F_DUPFD"):
            self.open.pop(result, None)
            if (file := self.open.get(int(arguments[0]))) is not None:
                self.open[result] = file  # they share the position, too
        return False

    def _lseek(self, arguments: list[str | bytes], result: int) -> bool:
        if (file := self.open.get(int(arguments[0]))) is not None:
            file.position = result
        return False

    def _write(self, arguments: list[str | bytes], result: int) -> bool:
        file = self.open.get(int(arguments[0]))
        if file is None:
            return False
        assert file.inode is not None and isinstance(arguments[1], bytes)
        if file.appends:
            file.position = len(file.inode.content(file.inode.pieces))
        file.inode.pieces.append((file.position, arguments[1][:result]))
        file.position += result
        return True

    def _ftruncate(self, arguments: list[str | bytes], result: int) -> bool:
        file = self.open.get(int(arguments[0]))
        if file is None or file.inode is None:
            return False
        file.inode.pieces.append((int(arguments[1]), None))
        return True

    def _fsync(self, arguments: list[str | bytes], result: int) -> bool:
        file = self.open.get(int(arguments[0]))
        if file is None:
            return False
        self.fsyncs += 1
        if file.inode is not None:
            file.inode.safe = len(file.inode.pieces)
            return True
        for change in self.pending:
            change.folders.discard(file.path)
        # a change lasts when all folders that it concerns are synced; one that has to wait holds up no other
        for change in [change for change in self.pending if not change.folders]:
            _rename(self.safe_names, change)
            self.pending.remove(change)
        return True

    def _rename(self, arguments: list[str | bytes], result: int) -> bool:
        source, target = os.fsdecode(arguments[0]), os.fsdecode(arguments[1])
        if not (self._inside(source) or self._inside(target)):
            return False
        if self.names[source] != self.names.get(target):  # two names of one file: POSIX does nothing
            self._change({target: self.names[source], source: None})
        return True

    def _link(self, arguments: list[str | bytes], result: int) -> bool:
        source, target = os.fsdecode(arguments[0]), os.fsdecode(arguments[1])
        if self._inside(target):
            self._change({target: self.names[source]})
        return self._inside(target)

    def _linkat(self, arguments: list[str | bytes], result: int) -> bool:  # as Python 3.14 links
        return self._link([os.fsencode(self._path(arguments[at:])) for at in (0, 2)], result)

    def _unlink(self, arguments: list[str | bytes], result: int) -> bool:
        path = os.fsdecode(arguments[0])
        if self._inside(path):
            self._change({path: None})
        return self._inside(path)

    def _unlinkat(self, arguments: list[str | bytes], result: int) -> bool:
        path = self._path(arguments)
        if self._inside(path):
            self._change({path + "/" if "AT_REMOVEDIR" in str(arguments[2]) else path: None})
        return self._inside(path)

    def _rmdir(self, arguments: list[str | bytes], result: int) -> bool:
        path = os.fsdecode(arguments[0])
        if self._inside(path):
            self._change({path + "/": None})
        return self._inside(path)

    def _path(self, arguments: list[str | bytes]) -> str:
        """Return the path of a call that names a folder's descriptor and a path from there."""
        path = os.fsdecode(arguments[1])
        folder = None if arguments[0] == "AT_FDCWD" else self.open.get(int(arguments[0]))
        return path if folder is None else str(PurePosixPath(folder.path) / path)

    def _mkdir(self, arguments: list[str | bytes], result: int) -> bool:
        path = os.fsdecode(arguments[0])
        if self._inside(path):
            self._change({path + "/": -1})
        return self._inside(path)

    def _access(self, arguments: list[str | bytes], result: int) -> bool:
        return False

    def _change(self, names: dict[str, int | None]) -> None:
        folders = {str(PurePosixPath(path.rstrip("/")).parent) for path in names}
        self.pending.append(Change(dict(names), folders))
        for path, number in names.items():
            if number is None:
                self.names.pop(path, None)
            else:
                self.names[path] = number

    # What a power cut could leave

    def states(self, random: Random) -> Iterator[dict[str, bytes]]:
        """Yield what the files could hold, path → content, if the power failed now."""
        for subset in self._subsets(random):
            names = dict(self.safe_names)
            for change in subset:
                _rename(names, change)
            names = {path: number for path, number in names.items() if self._reachable(path, names)}
            files = {path: number for path, number in names.items() if number >= 0}
            yield from self._with_contents(files, random)

    def _subsets(self, random: Random) -> Iterator[list[Change]]:
        pending = self.pending
        if len(pending) <= _ALL_SUBSETS_UP_TO:
            for kept in product((False, True), repeat=len(pending)):
                yield [change for change, keep in zip(pending, kept, strict=True) if keep]
            return
        lengths = range(len(pending) + 1)
        for length in random.sample(lengths, min(len(lengths), 1 << _ALL_SUBSETS_UP_TO)):
            yield pending[:length]
        for _ in range(1 << _ALL_SUBSETS_UP_TO):
            yield [change for change in pending if random.random() < 0.5]

    def _reachable(self, path: str, names: dict[str, int]) -> bool:
        """Whether the folders above ``path`` that were made meanwhile are there too."""
        made = {name for change in self.pending for name in change.names if name.endswith("/")}
        above = [f"{parent}/" for parent in PurePosixPath(path.rstrip("/")).parents]
        return all(folder in names for folder in above if folder in made)

    def _with_contents(self, files: dict[str, int], random: Random) -> Iterator[dict[str, bytes]]:
        inodes = {number: self.inodes[number] for number in files.values()}
        unsafe = {number for number, inode in inodes.items() if inode.safe < len(inode.pieces)}
        variants = {number: _contents(self.inodes[number], random) for number in unsafe}
        for kind in range(max((len(contents) for contents in variants.values()), default=1)):
            yield {
                path: variants[number][kind % len(variants[number])]
                if number in variants
                else self.inodes[number].content(self.inodes[number].pieces)
                for path, number in files.items()
            }


def _contents(inode: Inode, random: Random) -> list[bytes]:
    """Return what may be on the disk of a file that was written to since its last fsync."""
    safe, pending = inode.pieces[: inode.safe], inode.pieces[inode.safe :]
    whole = inode.content(inode.pieces)
    half = inode.content([*safe, *pending[: len(pending) // 2]])
    some = inode.content([*safe, *(piece for piece in pending if random.random() < 0.5)])
    zeros = bytearray(inode.content(safe)[: len(whole)])
    zeros.extend(bytes(len(whole) - len(zeros)))  # the size came, the data did not
    holes = bytearray(whole)
    for start in range(0, len(holes), _PAGE):
        if random.random() < 0.5:
            holes[start : start + _PAGE] = zeros[start : start + _PAGE]
    return [inode.content(safe), whole, half, some, bytes(zeros), bytes(holes)]


def _rename(names: dict[str, int], change: Change) -> None:
    for path, number in change.names.items():
        if number is None:
            names.pop(path, None)
        else:
            names[path] = number


def _text(argument: str) -> str | bytes:
    """Return a string of strace's record as its bytes; other arguments as they stand."""
    if argument.startswith('"') and argument.endswith('"'):
        return bytes.fromhex(argument[1:-1].replace("\\x", ""))
    return argument
