"""What another implementation of Protocol Buffers (Google's) makes of the same bytes.

  peer.py make COUNT SEED   prints messages of golden.proto as JSON: [{"hex": bytes, "row": what they hold}, ...]
  peer.py read              reads ["hex", ...], prints what they hold
  peer.py set FILE          writes the descriptors of golden.proto and what it imports

Messages are of all kinds: some are two in one, some have fields that their reader does not know.
"""

import json
import random
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor as F
from grpc_tools import protoc
import grpc_tools

HERE = Path(__file__).resolve().parent


def descriptors():
    """What Google's compiler makes of the files."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        google = Path(grpc_tools.__file__).parent / "_proto"
        status = protoc.main(
            ["protoc", f"-I{HERE}", f"-I{google}", "--include_imports", f"--descriptor_set_out={out}", "golden.proto"]
        )
        assert status == 0, "protoc fails"
        return out.read_bytes()


def is_map(field):
    return field.type == F.TYPE_MESSAGE and field.message_type.GetOptions().map_entry


def one(field, value):
    """A value as its column has it."""
    if field.type == F.TYPE_ENUM:
        found = field.enum_type.values_by_number.get(value)
        return found.name if found else str(value)
    if field.type == F.TYPE_BYTES:
        return value.hex()
    if field.type != F.TYPE_MESSAGE:
        return value
    name = field.message_type.full_name
    if name == "google.protobuf.Timestamp":
        return str(datetime(1970, 1, 1) + timedelta(seconds=value.seconds, milliseconds=value.nanos // 1_000_000))
    if name.startswith("google.protobuf."):
        return value.value
    return plain(value)


def plain(message):
    """A message as a row: what is absent is null."""
    row = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if is_map(field):
            of = field.message_type.fields_by_name["value"]
            row[field.name] = {str(k): one(of, v) for k, v in value.items()} or None
        elif field.is_repeated:
            row[field.name] = [one(field, v) for v in value] or None
        elif field.has_presence and not message.HasField(field.name):
            row[field.name] = None
        elif field.type != F.TYPE_GROUP:
            row[field.name] = one(field, value)
    return row


def scalar(dice, field):
    bits = dice.choice([1, 7, 8, 31, 32, 63])
    signed = lambda most: max(-(1 << most), min((1 << most) - 1, dice.getrandbits(bits) * dice.choice([1, -1])))
    kind = field.type
    if kind in (F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32):
        return signed(31)
    if kind in (F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64):
        return signed(63)
    if kind in (F.TYPE_UINT32, F.TYPE_FIXED32):
        return dice.getrandbits(min(bits, 32))
    if kind in (F.TYPE_UINT64, F.TYPE_FIXED64):
        # No more than BIGINT holds.
        return dice.getrandbits(bits)
    if kind in (F.TYPE_FLOAT, F.TYPE_DOUBLE):
        return dice.randrange(-1000, 1000) / 8
    if kind == F.TYPE_BOOL:
        return dice.random() < 0.5
    if kind == F.TYPE_STRING:
        return "".join(dice.choice("aé\U0001f600 \"") for _ in range(dice.choice([0, 1, 3, 200])))
    if kind == F.TYPE_BYTES:
        return dice.randbytes(dice.choice([0, 1, 5]))
    numbers = [v.number for v in field.enum_type.values]
    # A number without a name, where that is allowed.
    return dice.choice(numbers + [] if field.enum_type.is_closed else numbers + [99])


def fill(dice, message, depth=0):
    for field in message.DESCRIPTOR.fields:
        required = field.is_required
        if not required and dice.random() < 0.4:
            continue
        if field.type == F.TYPE_GROUP:
            getattr(message, field.name).x = 5
            continue
        if is_map(field):
            key, of = (field.message_type.fields_by_name[n] for n in ("key", "value"))
            for _ in range(dice.randrange(4)):
                target = getattr(message, field.name)
                at = scalar(dice, key)
                if of.type == F.TYPE_MESSAGE:
                    if depth < 2:
                        fill(dice, target[at], depth + 1)
                else:
                    target[at] = scalar(dice, of)
        elif field.is_repeated:
            for _ in range(dice.randrange(5)):
                if field.type == F.TYPE_MESSAGE:
                    fill(dice, getattr(message, field.name).add(), depth + 1)
                else:
                    getattr(message, field.name).append(scalar(dice, field))
        elif field.type == F.TYPE_MESSAGE:
            if field.message_type.full_name == "google.protobuf.Timestamp":
                message.at.seconds = dice.randrange(-(1 << 33), 1 << 33)
                message.at.nanos = dice.randrange(1000) * 1_000_000
            elif depth < 2:
                inner = getattr(message, field.name)
                inner.SetInParent()
                fill(dice, inner, depth + 1)
        else:
            setattr(message, field.name, scalar(dice, field))


def main():
    verb = sys.argv[1]
    encoded = descriptors()
    if verb == "set":
        Path(sys.argv[2]).write_bytes(encoded)
        return
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(encoded).file:
        pool.Add(file)
    narrow, wide = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"golden.{n}")) for n in ("Narrow", "Wide")
    )
    if verb == "make":
        dice = random.Random(int(sys.argv[3]))
        made = []
        for n in range(int(sys.argv[2])):
            message = narrow()
            if n:
                fill(dice, message)
            data = message.SerializeToString()
            if n % 3 == 1:
                # Two messages one behind the other are one, merged.
                fill(dice, message)
                data += message.SerializeToString()
            if n % 4 == 2:
                other = wide()
                fill(dice, other)
                data = other.SerializeToString() + data + other.SerializeToString()
            made.append({"hex": data.hex(), "row": plain(narrow.FromString(data))})
        json.dump(made, sys.stdout)
    elif verb == "read":
        json.dump([plain(narrow.FromString(bytes.fromhex(record))) for record in json.load(sys.stdin)], sys.stdout)


main()
