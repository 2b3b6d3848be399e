"""Answers as XML, for clients that ask for Format=XML.

Owns the cloud's rules of form: an answer's element is called by its action, a list is its name's element once for each
entry, and an error's element is Error. Must not know what an answer means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, tostring

from sgdataplane.store.interface import Json

HEAD = b"<?xml version='1.0' encoding='utf-8'?>\n"
# ElementTree writes these as they are. A parser would make a line feed of the first one; the other is for terminals.
AS_REFERENCES = {b"\r": b"&#13;", b"\x7f": b"&#127;"}
# XML has no way to write these characters.
UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
REPLACEMENT = "\ufffd"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
FALLBACK = "Value"  # the element of a key that can't be one's name


def xml_text(name: str, body: Mapping[str, Json]) -> bytes:
    """Return a document of one element.

    All but ASCII is written as references, so that no terminal obeys it, and nobody reads it from right to left.
    """
    root = Element(name)
    for key, value in body.items():
        _add(root, key, value)
    text: bytes = tostring(root, encoding="us-ascii")
    for raw, reference in AS_REFERENCES.items():
        text = text.replace(raw, reference)
    return HEAD + text


def _add(parent: Element, key: str, value: Json) -> None:
    if isinstance(value, list):
        for entry in value:
            _add(parent, key, entry)
        return
    element = SubElement(parent, key if NAME.fullmatch(key) else FALLBACK)
    if isinstance(value, dict):
        for inner, part in value.items():
            _add(element, inner, part)
    else:
        element.text = _write_value(value)


def _write_value(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return UNWRITABLE.sub(REPLACEMENT, "" if value is None else str(value))
