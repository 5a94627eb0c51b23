"""A figure and its sentence, as a notebook, a terminal and a screen reader get them."""

import base64

import pytest

from slimlib.common.picture import described

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def figure():
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(3, 2))
    drawn.subplots().plot([1, 2])
    return drawn


def test_the_sentence_is_the_image_s_alternative_text_and_stands_below(figure):
    (image, about), (said, _) = described(figure, "rank 8 <b> & $5").outputs()
    assert base64.b64decode(image["image/png"]).startswith(PNG)
    assert about["image/png"] == {"alt": "rank 8 <b> & $5", "width": 300}
    assert said == {
        "text/plain": "rank 8 <b> & $5",
        "text/html": "<p>rank 8 &lt;b&gt; &amp; $5</p>",
    }


def test_twice_as_many_pixels_as_a_page_shows(figure):
    png = described(figure, "").png()
    assert int.from_bytes(png[16:20], "big") == 600  # the header's width


def test_the_same_bytes_each_time(figure):
    assert described(figure, "a").png() == described(figure, "a").png()


def test_pyplot_does_not_show_it_again():
    from matplotlib import pyplot as plt

    before = plt.get_fignums()
    described(plt.figure(), "a")
    assert plt.get_fignums() == before
