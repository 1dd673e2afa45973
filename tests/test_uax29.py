"""The segments of UAX #29, against uniseg's."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.registry import find_stage
from factory.kernels.text import view_text
from factory.kernels.uax29 import cut_uax29

wordbreak = pytest.importorskip("uniseg.wordbreak", reason="uniseg is not installed (extra dev)")

# Without pictographs: they join what a joiner precedes (WB3c), which is left out.
ODD = "aZé1٣_.,;:'\"’ \t\nאבカナひ漢ก\u0301\u200d\u00ad🇩🇪-ー\u202f#\u200b\u2028\x85·"
PROSE = "Mr. O’Neill's e-mail (a_b@c.org) cost $3,000.50; カタカナ is 漢字, ภาษาไทย is Thai: צה״ל ג'ירפה 🇩🇪🇫🇷."


def segments(text):
    view = view_text(pa.array([text], pa.large_string()))
    cut = cut_uax29(view)
    return [bytes(view.data[begin:end]).decode() for begin, end in zip(cut.begins, cut.ends, strict=True)]


@settings(deadline=None, max_examples=500)
@given(st.text(st.sampled_from(ODD), max_size=30))
def test_segments_are_those_of_uniseg(text):
    assert segments(text) == [word for word in wordbreak.words(text) if not word[0].isspace()]


def test_prose_of_many_scripts_is_cut_as_uniseg_does():
    assert segments(PROSE) == [word for word in wordbreak.words(PROSE) if not word[0].isspace()]


def test_scorers_take_these_words_by_their_name():
    found = find_stage("scorer", "repetition")
    score = found.make(found.config(words="uax29", reading="dclm"))
    row = score(pa.record_batch({"text": pa.array(["_a b _c b _d"], pa.large_string())})).to_pylist()[0]
    assert row["top_2_gram"] == 0  # words that begin with a low line are none for DCLM: b b, once
