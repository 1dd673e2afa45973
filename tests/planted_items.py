"""Invented personal data of every kind, valid in form, and the pages it is planted in."""

import ipaddress
import random
import string

FIRST = ["anna", "j.roe", "kim_lee", "o'neil", "max+news", "Zoe-Marie", "t.w.ho", "info", "contact2", "p%c"]
HOSTS = ["mail.org", "uni-bonn.de", "stats.ox.ac.uk", "gmail.com", "corp.co.jp", "dept.gov", "x9.io", "post.museum"]
SENTENCES = [
    "The committee met in 1998 and again in 2004, when 3,214 members voted.",
    "Section 4.2.1 of the report (pp. 12-19) lists 17 causes; see also table 3.",
    "It was sold for $1,250,000.00 on 12/31/1999, or about 0.75 % of the total.",
    "Version 2.11.0 was followed by 3.0.0-rc1 and by release 10.4.1.2 in spring.",
    "ISBN 978-0-306-40615-7 and doi 10.1000/182 were printed on the back.",
    "At 12:30:45 the train left platform 9; it came at 2024-05-06 07:08:09.",
    "Handles such as @team or logo@2x.png are not addresses, and 1995-2003 is a span.",
    "Coordinates 51.5074, -0.1278 and the checksum d41d8cd98f00b204e9800998ecf8427e.",
]


def luhn(digits):
    total = sum(d * 2 - 9 * (d > 4) if i % 2 == 0 else d for i, d in enumerate(int(c) for c in reversed(digits)))
    return digits + str(-total % 10)


def email(draw):
    return f"{draw.choice(FIRST)}@{draw.choice(HOSTS)}"


def ipv4(draw):
    while True:
        made = ipaddress.ip_address(draw.getrandbits(32))
        if made.is_global and not made.is_multicast:
            return str(made)


def ipv6(draw):
    made = ipaddress.IPv6Address((0x2A02 << 112) | draw.getrandbits(64) | (draw.getrandbits(16) << 96))
    return str(made) if draw.random() < 0.7 else made.exploded


def card(draw):
    start, length = draw.choice([("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("6011", 16), ("36", 14)])
    made = luhn(start + "".join(draw.choices(string.digits, k=length - len(start) - 1)))
    if length == 16 and draw.random() < 0.6:
        return draw.choice([" ", "-"]).join(made[at : at + 4] for at in range(0, 16, 4))
    return made


def iban(draw):
    country, length, letters = draw.choice([("DE", 22, 0), ("GB", 22, 4), ("FR", 27, 0), ("NL", 18, 4), ("CH", 21, 0)])
    bank = "".join(draw.choices(string.ascii_uppercase, k=letters))
    rest = bank + "".join(draw.choices(string.digits, k=length - 4 - letters))
    check = 98 - int("".join(str(int(c, 36)) for c in f"{rest}{country}00")) % 97
    made = f"{country}{check:02}{rest}"
    return " ".join(made[at : at + 4] for at in range(0, length, 4)) if draw.random() < 0.5 else made


def phone(draw):
    line = f"{draw.randint(0, 9999):04}"
    area, exchange = draw.choice(["212", "415", "312", "617", "206"]), f"{draw.randint(220, 799)}"
    return draw.choice(
        [
            f"({area}) {exchange}-{line}",
            f"{area}-{exchange}-{line}",
            f"+1 {area} {exchange} {line}",
            f"{area}.{exchange}.{line}",
            f"020 7{exchange} {line}",
            f"+44 20 7{exchange} {line}",
            f"0161 4{draw.randint(10, 99)} {line}",
            f"+49 30 {draw.randint(200000, 899999)}",
        ]
    )


def key(draw):
    letters = string.ascii_letters + string.digits
    return draw.choice(
        [
            "AKIA" + "".join(draw.choices(string.ascii_uppercase + "234567", k=16)),
            "ghp_" + "".join(draw.choices(letters, k=36)),
            "sk-" + "".join(draw.choices(letters, k=48)),
            "AIza" + "".join(draw.choices(letters, k=35)),
        ]
    )


def ssn(draw):
    return f"{draw.choice([123, 457, 536, 721])}-{draw.randint(1, 99):02}-{draw.randint(1, 9999):04}"


MAKERS = {
    "email": email,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "card": card,
    "iban": iban,
    "phone": phone,
    "key": key,
    "ssn": ssn,
}
AROUND = [
    ("Write to {} today.", ""),
    ("({})", ""),
    ("Reach us: {}, or not.", ""),
    ("\n{}\n", ""),
    ("<{}> was given.", ""),
    ("It is {}; keep it.", ""),
]


def planted(kind, number):
    """A page with one item of the kind, and the item's byte range."""
    draw = random.Random(f"{kind} {number}")
    before, after = draw.choices(SENTENCES, k=3), draw.choices(SENTENCES, k=3)
    left, right = draw.choice(AROUND)[0].split("{}")
    item = MAKERS[kind](draw)
    front = " ".join(before) + " " + left
    return front + item + right + " " + " ".join(after), len(front.encode()), len((front + item).encode())
