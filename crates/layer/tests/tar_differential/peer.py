"""Reads archives from standard input, each behind its length, and lists the members of each as Python's tarfile sees
them: one line per member, then a line that says how it ended."""

import io
import struct
import sys
import tarfile
import zlib

KINDS = {
    tarfile.REGTYPE: "f",
    tarfile.AREGTYPE: "f",
    tarfile.CONTTYPE: "f",
    tarfile.GNUTYPE_SPARSE: "f",
    tarfile.LNKTYPE: "h",
    tarfile.SYMTYPE: "l",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
    tarfile.DIRTYPE: "d",
    tarfile.FIFOTYPE: "p",
}


def raw(text):
    return text.encode("utf-8", "surrogateescape")


def lines(data):
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            kind = KINDS.get(member.type, "?")
            crc, size = 0, 0
            if kind == "f":
                content = archive.extractfile(member).read()
                crc, size = zlib.crc32(content), member.size
                if len(content) != size:
                    raise tarfile.ReadError("short data")
            xattrs = sorted(
                raw(key[13:]).hex() + "=" + raw(value).hex()
                for key, value in member.pax_headers.items()
                if key.startswith("SCHILY.xattr.")
            )
            link = raw(member.linkname) if kind in "hl" else b""
            device = (member.devmajor, member.devminor) if kind in "cb" else (0, 0)
            mtime = int(member.mtime // 1)
            fields = [kind, raw(member.name).hex(), link.hex(), size, member.uid, member.gid, member.mode & 0o7777]
            yield "\t".join(map(str, [*fields, mtime, *device, crc, ",".join(xattrs)]))


def main():
    source, out = sys.stdin.buffer, sys.stdout
    while head := source.read(4):
        data = source.read(struct.unpack("<I", head)[0])
        try:
            for line in lines(data):
                out.write(line + "\n")
            out.write("end\n")
        except Exception as error:
            out.write("refused " + repr(str(error)) + "\n")
        out.flush()


main()
