#!/usr/bin/env python3
"""Writes down what messages a build of buildx knows: python3 record.py /path/to/docker-buildx > fields.txt

A Go program carries the descriptors of its messages. One begins with its file's name and has no end of its own: it
ends where no field of a FileDescriptorProto follows. Needs the package python3-protobuf.
"""

import re
import sys

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

WANTED = re.compile(r"moby/buildkit/|tonistiigi/fsutil/|google/rpc/status|grpc/health/")
BEGIN = re.compile(rb"(?=\n([\x05-\x7f])([\x20-\x7e]{5,127}?\.proto))")


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def end_of(data, begin):
    end = begin
    while True:
        tag, at = varint(data, end)
        number, kind = tag >> 3, tag & 7
        if kind != 2 or number not in (1, 2, 3, 4, 5, 6, 7, 8, 12) or (number == 1 and end != begin):
            return end
        length, at = varint(data, at)
        end = at + length
        if number == 12:
            return end


def name_of(field):
    if field.type_name:
        return field.type_name.lstrip(".")
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def message(prefix, found):
    name = f"{prefix}.{found.name}"
    maps = {f"{name}.{entry.name}": entry for entry in found.nested_type if entry.options.map_entry}
    print(f"message {name}")
    for field in found.field:
        entry = maps.get(field.type_name.lstrip("."))
        if entry:
            kind = f"map {name_of(entry.field[0])} {name_of(entry.field[1])}"
        else:
            kind = ("repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else "one ") + name_of(field)
        print(f"  {field.number} {field.name} {kind}")
    for nested in found.nested_type:
        if not nested.options.map_entry:
            message(name, nested)
    for nested in found.enum_type:
        enumeration(name, nested)


def enumeration(prefix, found):
    print(f"enum {prefix}.{found.name}", *(value.number for value in found.value))


def main():
    data = open(sys.argv[1], "rb").read()
    files = {}
    for begin in BEGIN.finditer(data):
        path = begin.group(2).decode()
        if len(path) == begin.group(1)[0] and WANTED.search(path) and path not in files:
            files[path] = FileDescriptorProto.FromString(data[begin.start() : end_of(data, begin.start())])
    for _, file in sorted(files.items()):
        for found in file.message_type:
            message(file.package, found)
        for found in file.enum_type:
            enumeration(file.package, found)


main()
