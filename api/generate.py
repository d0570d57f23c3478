# SPDX-License-Identifier: Apache-2.0
"""Writes what is known of the messages beyond protobuf-c's descriptors, from the descriptor set of api/.

    generate.py table DESCRIPTORS > core/config/table.c      classes of all fields, for core/config
    generate.py docs  DESCRIPTORS > docs/configuration.md    the reference for users

The class of a field is the bracket at the start of its comment in the .proto file:

    [honoured]  [harmless: why]  [refused: why]    and then, for keys and passwords,  [secret]

Messages of google.protobuf are the encoding itself and those of envoy.admin are only printed: their
fields have no class. A comment without a class anywhere else is an error of the build.
"""
import re
import sys

from google.protobuf import descriptor_pb2 as pb

CLASSES = {"honoured": "HONOURED", "harmless": "HARMLESS", "refused": "REFUSED"}
CLASSLESS = ("google.protobuf.", "envoy.admin.")
BRACKET = re.compile(r"\[(honoured|harmless|refused)(?:: ([^\]]*))?\]\s*(\[secret\]\s*)?")
Field = pb.FieldDescriptorProto
SCALARS = {
    Field.TYPE_DOUBLE: "double", Field.TYPE_FLOAT: "float", Field.TYPE_INT64: "int64",
    Field.TYPE_UINT64: "uint64", Field.TYPE_INT32: "int32", Field.TYPE_UINT32: "uint32",
    Field.TYPE_BOOL: "bool", Field.TYPE_STRING: "string", Field.TYPE_BYTES: "bytes",
}


class Entry:
    """A message or an enum with what its file says about it."""

    def __init__(self, file, proto, full, path, comments):
        self.file, self.proto, self.full = file, proto, full
        self.path, self.comments = path, comments
        self.text = comments.get(path, "")

    def comment(self, *path):
        return self.comments.get(self.path + path, "")


def comment_text(raw):
    """Paragraphs of a comment, each in one line; indented lines (examples) are kept as they are."""
    lines = [line[1:] if line.startswith(" ") else line for line in raw.rstrip().split("\n")]
    out = []
    for line in lines:
        if out and line and out[-1] and not line.startswith(" ") and not out[-1].startswith(" "):
            out[-1] += " " + line
        else:
            out.append(line)
    return "\n".join(out)


def collect(files):
    messages, enums = [], []

    def message(file, proto, full, path, comments):
        messages.append(Entry(file, proto, full, path, comments))
        for i, e in enumerate(proto.enum_type):
            enums.append(Entry(file, e, full + "." + e.name, path + (4, i), comments))
        for i, m in enumerate(proto.nested_type):
            message(file, m, full + "." + m.name, path + (3, i), comments)

    for file in files:
        comments = {tuple(loc.path): comment_text(loc.leading_comments)
                    for loc in file.source_code_info.location if loc.leading_comments}
        for i, m in enumerate(file.message_type):
            message(file, m, file.package + "." + m.name, (4, i), comments)
        for i, e in enumerate(file.enum_type):
            enums.append(Entry(file, e, file.package + "." + e.name, (5, i), comments))
    return messages, enums


def fields_of(entry):
    """(field, class, why, secret, text) in the order of numbers; the class is None if there is none."""
    out = []
    for i, field in enumerate(entry.proto.field):
        text = entry.comment(2, i)
        if entry.full.startswith(CLASSLESS) or entry.proto.options.map_entry:
            out.append((field, None, "", False, text))
            continue
        match = BRACKET.match(text)
        if not match:
            sys.exit("%s: %s.%s: the comment does not start with a class such as [honoured]"
                     % (entry.file.name, entry.full, field.name))
        if match[1] != "honoured" and not match[2]:
            sys.exit("%s: %s.%s: say why it is %s" % (entry.file.name, entry.full, field.name, match[1]))
        out.append((field, match[1], match[2] or "", bool(match[3]), text[match.end():]))
    return sorted(out, key=lambda x: x[0].number)


def reserved_of(entry):
    """Names and numbers of what Envoy has and we have not, in pairs."""
    numbers = [n for r in entry.proto.reserved_range for n in range(r.start, r.end)]
    if len(numbers) != len(entry.proto.reserved_name):
        sys.exit("%s: %s: reserve names and numbers in the same order" % (entry.file.name, entry.full))
    return list(zip(numbers, entry.proto.reserved_name))


# ------------------------------------------------------------------ the table for core/config


def c_name(full):
    """protobuf-c's spelling: an underscore before each run of upper-case letters, __ between the parts."""
    return "__".join(re.sub(r"(?<=[^A-Z])([A-Z])", r"_\1", part).lower() for part in full.split("."))


def c_string(text):
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"')


def write_table(messages, out):
    out("/* SPDX-License-Identifier: Apache-2.0 */")
    out("/* Written by api/generate.py from api/; not to be edited. */")
    out('#include "core/config/types_priv.h"')
    for name in sorted({m.file.name for m in messages}):
        out('#include "%s"' % name.replace(".proto", ".pb-c.h"))
    rows = []
    for m in sorted(messages, key=lambda m: m.full):
        ident, fields, reserved = c_name(m.full), fields_of(m), reserved_of(m)
        if fields:
            out("\nstatic const struct hb_cfg__field %s__f[] = {" % ident)
            for field, cls, why, secret, _ in fields:
                oneof = field.oneof_index + 1 if field.HasField("oneof_index") else 0
                out("\t{HB_CFG__%s, %s, %d, %s}," % (CLASSES.get(cls, "HONOURED"),
                    "true" if secret else "false", oneof, c_string(why) if why else "NULL"))
            out("};")
        if reserved:
            out("\nstatic const struct hb_cfg__reserved %s__r[] = {" % ident)
            for number, name in reserved:
                out("\t{%d, %s}," % (number, c_string(name)))
            out("\t{0, NULL},\n};")
        rows.append("\t{&%s__descriptor, %s, %s, %s}," % (
            ident, ident + "__f" if fields else "NULL", ident + "__r" if reserved else "NULL",
            "true" if m.proto.options.map_entry else "false"))
    out("\nconst struct hb_cfg__row hb_cfg__rows[] = {")
    for row in rows:
        out(row)
    out("};\nconst size_t hb_cfg__n_rows = sizeof(hb_cfg__rows) / sizeof(hb_cfg__rows[0]);")


# ------------------------------------------------------------------ the reference for users

HEAD = """# Configuration reference

Written from the comments in `api/` by `api/generate.py`; edit those, then run `./dev docs`.

The file is YAML or JSON and holds one `envoy.config.bootstrap.v3.Bootstrap`. Field names may be written in
snake_case or lowerCamelCase. A field that is not listed here, or listed as refused, is an error that names file,
line and column; `hbone validate -c FILE` prints all of them.

- **refused**: hbone knows the field and does not do what it says, so it must not be set.
- **no effect**: the field may be set; why nothing follows from it stands beside it.
- *Not supported* lists further fields that Envoy has and hbone has not.

How values are written: a duration is `"1.5s"`; bytes are base64; an enum is its name; `UInt32Value`, `BoolValue` and
the like are plain values that may be absent; a `Struct` is any mapping; an `Any` is a mapping with `"@type":
type.googleapis.com/<message>` and the fields of that message, or a `TypedStruct` that holds them.
"""

ORDER = ("envoy.config.bootstrap.", "hbone.", "envoy.config.overload.", "envoy.extensions.resource_monitors.",
         "envoy.config.listener.", "envoy.extensions.filters.listener.", "envoy.extensions.filters.network.",
         "envoy.extensions.filters.common.", "envoy.config.rbac.", "envoy.config.cluster.",
         "envoy.config.endpoint.", "envoy.extensions.clusters.", "envoy.extensions.network.",
         "envoy.extensions.transport_sockets.", "envoy.config.accesslog.", "envoy.extensions.access_loggers.",
         "envoy.data.accesslog.", "xds.type.matcher.", "envoy.extensions.matching.", "envoy.type.matcher.",
         "envoy.config.core.", "envoy.type.", "xds.", "udpa.")


def rank(full):
    return next((i for i, prefix in enumerate(ORDER) if full.startswith(prefix)), len(ORDER))


def anchor(full):
    return full.lower().replace(".", "-")


def type_text(field, messages, known):
    if field.type in SCALARS:
        text = SCALARS[field.type]
    else:
        full = field.type_name[1:]
        target = messages.get(full)
        if target is not None and target.proto.options.map_entry:
            key, value = target.proto.field
            return "map of %s to %s" % (SCALARS[key.type], type_text(value, messages, known))
        short = full.split(".")[-1]
        text = "[%s](#%s)" % (short, anchor(full)) if full in known else short
    return "list of " + text if field.label == Field.LABEL_REPEATED else text


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("*", "\\*")


def write_message(entry, messages, known, out):
    out('\n### <a id="%s"></a>%s\n' % (anchor(entry.full), entry.full))
    out(entry.text)
    fields = fields_of(entry)
    if fields:
        out("\n| field | type | meaning |\n|---|---|---|")
    for field, cls, why, _, text in fields:
        text = cell(text)
        if cls == "refused":
            text = "**refused** (%s). %s" % (cell(why), text)
        elif cls == "harmless":
            text = "**no effect** (%s). %s" % (cell(why), text)
        if field.HasField("oneof_index"):
            group = [f.name for f in entry.proto.field
                     if f.HasField("oneof_index") and f.oneof_index == field.oneof_index]
            if len(group) > 1:
                text += " One of %s." % entry.proto.oneof_decl[field.oneof_index].name
        out("| `%s` | %s | %s |" % (field.name, type_text(field, messages, known), text))
    if entry.proto.reserved_name:
        out("\n*Not supported:* " + ", ".join("`%s`" % n for n in sorted(entry.proto.reserved_name)) + ".")


def write_enum(entry, out):
    out('\n### <a id="%s"></a>%s\n' % (anchor(entry.full), entry.full))
    out(entry.text)
    out("\n| value | number | meaning |\n|---|---|---|")
    for i, value in enumerate(entry.proto.value):
        out("| `%s` | %d | %s |" % (value.name, value.number, cell(entry.comment(2, i))))


def write_docs(messages, enums, out):
    def shown(entry):
        return not entry.full.startswith(CLASSLESS) and not getattr(entry.proto.options, "map_entry", False)

    entries = [e for e in messages + enums if shown(e)]
    known = {e.full for e in entries}
    by_name = {m.full: m for m in messages}
    packages = sorted({e.file.package for e in entries}, key=lambda p: (rank(p + "."), p))
    out(HEAD)
    for package in packages:
        out("\n## %s" % package)
        for e in entries:
            if e.file.package == package and isinstance(e.proto, pb.DescriptorProto):
                write_message(e, by_name, known, out)
        for e in entries:
            if e.file.package == package and isinstance(e.proto, pb.EnumDescriptorProto):
                write_enum(e, out)


def main():
    what, path = sys.argv[1:]
    descriptors = pb.FileDescriptorSet()
    with open(path, "rb") as file:
        descriptors.ParseFromString(file.read())
    messages, enums = collect(descriptors.file)
    lines = []
    if what == "table":
        write_table(messages, lines.append)
    else:
        write_docs(messages, enums, lines.append)
    sys.stdout.write("\n".join(lines) + "\n")


main()
