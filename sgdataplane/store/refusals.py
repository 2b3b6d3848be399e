"""Certificates of hosts that open no stream any more, whatever becomes of the host's own document.

Owns what is refused, and the document that says so. Must not know streams, or who decides.

    refusal/NAME   about: {"serials": [of certificates, as text], "issued_until": seconds since 1970, or null}

The certificates of the host NAME with these serial numbers are refused, and all that were issued up to that time (their
`notBefore`, RFC 5280, section 4.1.2.5). A refusal outlives the host: a stolen certificate must not open the policy of a
machine that comes later under the same name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

from sgdataplane.store.documents import ResourceKind, about, path_of, texts
from sgdataplane.store.interface import Body, Path

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class RefusedCertificates:
    """The refused certificates of one host."""

    name: str
    serials: frozenset[str] = frozenset()  # in capital hexadecimal digits without leading zeros
    issued_until: float = NEVER  # those issued up to then are refused, in seconds since 1970

    @property
    def path(self) -> Path:
        """The path of its document."""
        return path_of(ResourceKind.REFUSAL, self.name)

    @property
    def is_empty(self) -> bool:
        """Whether it refuses nothing."""
        return not self.serials and self.issued_until == NEVER

    def body(self) -> Body:
        """Return its document."""
        until = None if self.issued_until == NEVER else self.issued_until
        return {"about": {"serials": [*sorted(self.serials)], "issued_until": until}}

    @staticmethod
    def of(name: str, body: Body | None) -> RefusedCertificates:
        """Return what a document says; an empty refusal if there is none."""
        said = about(body or {})
        serials, until = frozenset(texts(said, "serials")), said.get("issued_until")
        return RefusedCertificates(name, serials, NEVER if until is None else cast(float, until))

    def refuse(self, serials: Iterable[str] = (), issued_until: float = NEVER) -> RefusedCertificates:
        """Return a refusal that refuses these certificates as well."""
        plain = map(plain_serial, serials)
        return replace(self, serials=self.serials.union(plain), issued_until=max(self.issued_until, issued_until))

    def why(self, serial: str, issued: float) -> str:
        """Return why a certificate is refused; "" if it isn't."""
        if serial in self.serials:
            return "this certificate is revoked"
        if issued <= self.issued_until:
            return f"the host {self.name} was revoked after this certificate was issued"
        return ""


def plain_serial(text: str) -> str:
    """Return a certificate's serial number in hexadecimal, however people and programs spell it: 0A:1b is A1B."""
    return text.replace(":", "").upper().lstrip("0")
