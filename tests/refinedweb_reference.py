"""RefinedWeb's line corrections and DCLM's list of rules, read anew and written plainly: what the kernels are held against.

Written from the published rules (arXiv:2306.01116; arXiv:2406.11794 and its `dclm_baseline_refinedweb.yaml`), with `str`,
`re` and Counter; no code of DCLM. Words for n-grams are those of uniseg (UAX #29).
"""

import re
from collections import Counter

COUNTED_THINGS = "likes shares comments retweets reposts quotes bookmarks upvotes downvotes downloads views followers"
COUNTER = re.compile(rf"\W*\d[\d.,]*[kmb]?\s+(?:{'|'.join(COUNTED_THINGS.split())})\W*")
EDITS = (
    re.compile(r"\s?items in cart", re.IGNORECASE),
    re.compile(r"\s?read more...\Z", re.IGNORECASE),
    re.compile(r"\Asign-in\s?", re.IGNORECASE),
)
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
BLANKS = re.compile(r"[ \t\n\v\f\r\0]+")


def share(line, question):
    return sum(map(question, line)) / len(line) if line else 0


def corrected(text, max_uppercase=0.5, max_numeric=0.999999, min_words=2, max_edited_words=10):
    """The text after the line corrections."""
    rules = (
        lambda line: share(line, str.isupper) <= max_uppercase,
        lambda line: share(line, str.isdigit) <= max_numeric,
        lambda line: not COUNTER.fullmatch(line.lower()),
        lambda line: not line or len(line.split()) >= min_words,
    )
    for rule in rules:
        text = "\n".join(filter(rule, text.split("\n"))).strip()
    for pattern in EDITS:
        lines = []
        for line in text.split("\n"):
            edited = pattern.sub("", line) if len(line.split()) <= max_edited_words else line
            if not line or edited.strip():
                lines.append(edited)
        text = "\n".join(lines).strip()
    return text


def counted_words(text):
    """Runs between ASCII blanks that begin with a letter or number."""
    return sum(word[:1].isalnum() for word in BLANKS.split(text))


def removed_word_share(text):
    before = counted_words(text)
    return (before - counted_words(corrected(text))) / before if before else None


def verdicts(text):
    """Rule -> whether it drops the text as it is."""
    words = text.split()
    lines = [line for piece in text.split("\n") if (line := piece.strip())]
    begun = counted_words(text)
    symbols = sum(map(text.count, ("#", "...", ". . .", "…")))
    removed = removed_word_share(text)
    return {
        "page_length": not 50 <= begun <= 100_000,
        "word_length": not words or not 3 <= sum(map(len, words)) / len(words) <= 10,
        "symbol_ratio": not words or symbols / len(words) > 0.1,
        "bullets": sum(line.startswith(("●", "•", "*", "-")) for line in lines) > 0.9 * len(lines),
        "ellipsis_lines": sum(line.endswith(("...", ". . .", "…")) for line in lines) > 0.3 * len(lines),
        "alphabetic": not words or sum(not any(map(str.isalpha, word)) for word in words) / len(words) > 0.2,
        "stop_words": sum(word.lower() in STOP_WORDS for word in words) < 2,
        "repetition": any(repeats(text)),
        "removed_words": removed is None or removed > 0.05,
    }


def repeats(text):
    """Whether each repetition rule of Table A1 is broken, all copies counted."""
    from uniseg.wordbreak import words as cut_words

    for feeds, share_of_items, share_of_characters in ((r"\n", 0.3, 0.2), (r"\n\n", 0.3, 0.2)):
        items = [item for piece in re.split(feeds, text) if (item := piece.strip())]
        if len(items) == 1:
            continue
        again = [(item, count) for item, count in Counter(items).items() if count > 1]
        characters = sum(map(len, items))
        yield not items or sum(count for _, count in again) / len(items) > share_of_items
        yield not items or sum(len(item) * count for item, count in again) / characters > share_of_characters
    words = [word for word in cut_words(text) if word[0].isalnum()]
    characters = sum(map(len, words))
    for n, most in zip(range(2, 11), (0.2, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.1), strict=True):
        grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
        counts = Counter(grams)
        top = max(counts.values(), default=1)
        if top == 1:
            continue
        if n <= 4:
            longest = max(sum(map(len, gram)) for gram, count in counts.items() if count == top)
            yield longest * top / characters > most
        else:
            covered = {at + step for at, gram in enumerate(grams) if counts[gram] > 1 for step in range(n)}
            yield sum(len(words[at]) for at in covered) / characters > most
