"""The documents the benchmarks run on, made once from ../shared/data: `python tests/benchmarks/bench_data.py FOLDER`.

warc/ the crawl's archives; warc_small/ every third response of them; small/ 2,000 documents of English, some 4 kB each, as
JSON lines; large/ 16,000 of them; lid.bin a fastText model in the shape of lid.176 (15 languages). What is there is left.
"""

import json
import os
import random
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import zstandard

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
DOCUMENT_BYTES = 3_800
LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "ru", "zh", "ja", "ko", "ar", "hi", "pl", "vi", "tr")


def main(folder: str) -> None:
    if not SHARED.is_dir():
        sys.exit(f"The benchmarks' documents are made from {SHARED}, which is not there.")
    made = Path(folder)
    for name, make in (("warc", archives), ("warc_small", sample), ("small", documents), ("lid.bin", language_model)):
        if not (made / name).exists():
            print(f"making {made / name}", file=sys.stderr)
            make(made)


def archives(made: Path) -> None:
    target = made / "warc.new"
    target.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(sorted((SHARED / "warc").glob("*.warc.gz"))):
        shutil.copyfile(path, target / f"part-{index:02d}.warc.gz")
    target.rename(made / "warc")


def sample(made: Path) -> None:
    target = made / "warc_small.new"
    target.mkdir(parents=True, exist_ok=True)
    chosen = [member for path in sorted((made / "warc").iterdir()) for member in list(members(path))[1::3]]
    for index in range(2):
        (target / f"part-{index:02d}.warc.gz").write_bytes(b"".join(chosen[index::2]))
    target.rename(made / "warc_small")


def members(path: Path) -> Iterator[bytes]:
    """The gzip members of an archive, as they are stored."""
    data = path.read_bytes()
    start = 0
    while start < len(data):
        inflate = zlib.decompressobj(31)
        inflate.decompress(data[start:])
        stop = len(data) - len(inflate.unused_data)
        yield data[start:stop]
        start = stop


def lines(path: Path) -> Iterator[dict]:
    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield json.loads(line)


def passages() -> Iterator[str]:
    """Pages of the crawl in English as they are extracted, and the corpora cut at line ends."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.extract.html2text import extract_plain_text

    english = {row["record_id"] for row in lines(SHARED / "warc" / "pages.jsonl.zst") if row["html_lang"] == "en"}
    for path in sorted((SHARED / "warc").glob("*.warc.gz")):
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                if record.record_id in english:
                    text = extract_plain_text(record.reader.read().decode("utf-8", "replace"), main_content=True)
                    if len(text) > 200:
                        yield text[: 4 * DOCUMENT_BYTES]
    for name in ("books", "government", "howto", "techdocs", "textbook", "wikipedia", "biomedical", "legal"):
        for row in lines(SHARED / "corpus" / f"{name}.jsonl.zst"):
            piece: list[str] = []
            for line in row["text"].split("\n"):
                piece.append(line)
                if sum(map(len, piece)) > DOCUMENT_BYTES:
                    yield "\n".join(piece)
                    piece = []


def documents(made: Path) -> None:
    found = list(passages())
    random.Random(7).shuffle(found)
    for name, count, files in (("large", 16_000, 8), ("small", 2_000, 2)):
        target = made / f"{name}.new"
        target.mkdir(parents=True, exist_ok=True)
        for index in range(files):
            with (target / f"part-{index:02d}.jsonl").open("w", encoding="utf-8") as out:
                for number in range(index, count, files):
                    text = found[number % len(found)]
                    row = {"id": f"d{number}", "text": text, "url": f"https://bench.example/{number}"}
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
        target.rename(made / name)


def language_model(made: Path) -> None:
    import fasttext

    texts = made / "lid.txt"
    with texts.open("w", encoding="utf-8") as out:
        for row in lines(SHARED / "multilingual" / "langid.jsonl.zst"):
            if row["lang"] in LANGUAGES:
                out.write(f"__label__{row['lang']} {' '.join(row['text'].split())}\n")
    model = fasttext.train_supervised(
        str(texts), dim=16, minn=2, maxn=4, bucket=2_000_000, loss="hs", epoch=10, lr=0.5, thread=2, verbose=0
    )
    model.save_model(os.fspath(made / "lid.bin"))
    texts.unlink()


if __name__ == "__main__":
    main(sys.argv[1])
