"""Puts something else in the place of the personal data a scorer found, by kind; the text around it stays byte for byte.

`column` is `found` of the scorer `pii`. `policy` is one for all kinds, or one by kind (those not named stay as they are):
`tag` writes the kind (`<EMAIL>`); `fineweb` is FineWeb's (arXiv:2406.17557) and touches e-mail and public IPv4 only, with one
of its fixed addresses, chosen by a hash of the value; `remove` leaves nothing; `synthetic` writes a made-up value of the
same shape (BigCode, arXiv:2305.06161), the same for the same value wherever it stands, by an HMAC under `key`. The key keeps
data sets apart and is no secret: whoever has the recipe can test whether a value was there. Made-up e-mail ends in
`.example` (RFC 2606), addresses are private or for documentation, numbers begin with 000, check digits of IBANs are 00.

None of what is written is personal data to the scorer, so redacting twice changes nothing; after `remove` this holds only
where what stood on both sides does not become a value of its own.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Literal

import pyarrow as pa
from pydantic import Field, field_validator

from factory.core.columns import is_list_of_structs
from factory.core.config import Config
from factory.core.errors import FactoryError
from factory.core.registry import register
from factory.core.schema import EDITS
from factory.core.stage import BatchFunction
from factory.stages.personal_items import FINEWEB_EMAILS, FINEWEB_IPS, KINDS, PLACEHOLDER_CREDENTIALS, check_kinds

Policy = Literal["tag", "fineweb", "synthetic", "remove"]

# Sixteen letters, of which no word is made that says what stands beside it (tel, dns, isbn), and none begins a known key.
_LETTERS = "bcfghjkmnpqrtwxz"


class Redact(Config):
    column: str
    policy: Policy | dict[str, Policy] = "tag"
    kinds: tuple[str, ...] = Field(default=KINDS, min_length=1)
    key: str = Field(default="", max_length=200)

    @field_validator("kinds")
    @classmethod
    def _are_known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        check_kinds(kinds)
        return kinds

    @field_validator("policy")
    @classmethod
    def _is_possible(cls, policy: Policy | dict[str, Policy]) -> Policy | dict[str, Policy]:
        if isinstance(policy, dict):
            check_kinds(policy)
            for kind, chosen in policy.items():
                if chosen == "fineweb" and kind not in ("email", "ipv4"):
                    raise ValueError(f"fineweb says nothing about '{kind}'; give it tag, synthetic or remove")
        return policy

    def by_kind(self) -> dict[str, Policy]:
        policies = self.policy if isinstance(self.policy, dict) else dict.fromkeys(KINDS, self.policy)
        return {
            kind: policy
            for kind, policy in policies.items()
            if kind in self.kinds and (policy != "fineweb" or kind in ("email", "ipv4"))
        }


def refusal(name: str, kind: pa.DataType) -> str:
    names = {field.name for field in kind.value_type} if is_list_of_structs(kind) else set()
    if {"start", "end", "kind"} <= names:
        return ""
    return f"redact takes spans with their kind, and '{name}' holds {kind}. Name the column `found` of the scorer pii."


@register(
    "redact",
    version=1,
    reads=lambda config: (config.column, "text"),
    writes={"edits": EDITS},
    config=Redact,
    takes=lambda config: [(config.column, refusal)],
)
def redact(config: Redact) -> BatchFunction:
    policies = config.by_kind()
    key = config.key.encode()

    def rewrite(batch: pa.RecordBatch) -> pa.RecordBatch:
        column = batch.column(config.column)
        if refused := refusal(config.column, column.type):
            raise FactoryError(refused)
        texts = batch.column("text")
        edits: list[list[dict[str, object]] | None] = []
        for row, items in enumerate(column.to_pylist()):
            if not items:  # a text is only looked at where there is something in it
                edits.append(None if items is None else [])
                continue
            content = (texts[row].as_py() or "").encode()
            edits.append(
                [
                    {
                        "start": item["start"],
                        "end": item["end"],
                        "replacement": replacement(
                            content[item["start"] : item["end"]].decode("utf-8", "replace"), item["kind"], policies, key
                        ),
                    }
                    for item in items
                    if item["kind"] in policies
                ]
            )
        return pa.record_batch([pa.array(edits, EDITS)], names=["edits"])

    return rewrite


def replacement(value: str, kind: str, policies: Mapping[str, Policy], key: bytes) -> str:
    """What stands in the place of a value from now on."""
    policy = policies[kind]
    if policy == "tag":
        return f"<{kind.upper()}>"
    if policy == "remove":
        return ""
    if policy == "fineweb":
        fixed = FINEWEB_EMAILS if kind == "email" else FINEWEB_IPS
        return fixed[_stream(key, kind, value, 1)[0] % len(fixed)]
    return _MADE_UP[kind](value, key)


def _stream(key: bytes, kind: str, value: str, size: int) -> bytes:
    """As many bytes as are wanted, a function of key, kind and value."""
    digest = hmac.new(key, f"{kind}\0{value}".encode(), hashlib.sha256).digest()
    return hashlib.shake_256(digest).digest(size)


def _shaped(value: str, stream: bytes, *, digits: bool = True) -> str:
    """Letters for letters in their case, digits for digits, anything else as it is."""
    made = []
    for letter, byte in zip(value, stream, strict=True):
        if letter.isdecimal() and digits:
            made.append(str(byte % 10))
        elif letter.isalnum():
            drawn = _LETTERS[byte % 16]
            made.append(drawn.upper() if letter.isupper() else drawn)
        else:
            made.append(letter)
    return "".join(made)


def _email(value: str, key: bytes) -> str:
    made = _shaped(value, _stream(key, "email", value.lower(), len(value)))
    local, _, host = made.rpartition("@")
    return f"{local}@{host.rpartition('.')[0]}.example"


def _ipv4(value: str, key: bytes) -> str:
    return "10." + ".".join(str(byte) for byte in _stream(key, "ipv4", value, 3))


def _ipv6(value: str, key: bytes) -> str:
    whole = ipaddress.ip_address(value).exploded
    return str(ipaddress.IPv6Address(b"\x20\x01\x0d\xb8" + _stream(key, "ipv6", whole, 12)))


def _number(value: str, key: bytes) -> str:
    digits = re.sub(r"\D", "", value)
    drawn = iter("000" + "".join(str(byte % 10) for byte in _stream(key, "number", digits, len(digits)))[3:])
    return "".join(next(drawn) if letter.isdecimal() else letter for letter in value)


def _iban(value: str, key: bytes) -> str:
    plain = value.replace(" ", "")
    drawn = iter(plain[:2] + "00" + _shaped(plain, _stream(key, "iban", plain, len(plain)))[4:])
    made = "".join(letter if letter == " " else next(drawn) for letter in value)
    # Digits after letters would begin a number of their own.
    return re.sub(r"(?<=[A-Z] )\d{1,3}", lambda found: "0" * len(found[0]), made)


def _key(value: str, key: bytes) -> str:
    made = _shaped(value, _stream(key, "key", value, len(value)), digits=False)
    return re.sub(r"(?<![A-Za-z0-9_])[A-Za-z]", lambda found: "Q" if found[0].isupper() else "q", made)


_MADE_UP: dict[str, Callable[[str, bytes], str]] = {
    "email": _email,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "phone": _number,
    "card": _number,
    "ssn": _number,
    "iban": _iban,
    "key": _key,
    "url_credentials": lambda value, key: PLACEHOLDER_CREDENTIALS,
}
