"""Whether a figure can be read at a width: no text on another, none outside, none too small."""

from itertools import combinations

from matplotlib.text import Text

WIDTHS = (600, 1280)  # pixels: a narrow page, and the file as it is written
SMALLEST = 9  # pixels of a letter's size at the narrow width
TOUCH = 0.5  # pixels: boxes that share an edge do not lie on one another


def text_boxes(figure, width: int) -> list[tuple[str, float, tuple[float, float, float, float]]]:
    """(text, size in pixels, box) of every text that is drawn at a width in pixels."""
    figure.set_dpi(width / figure.get_figwidth())
    figure.draw_without_rendering()  # places everything
    found = []
    for text in _drawn_texts(figure):
        box = text.get_window_extent()
        if text.get_text().strip() and box.width > 0:
            found.append((text.get_text(), text.get_fontsize() * figure.dpi / 72, box.extents))
    return found


def _drawn_texts(figure) -> list[Text]:
    """All texts but those of ticks outside the axes' limits, which matplotlib keeps and hides."""
    hidden = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            edge = 1e-9 * (high - low)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not ax.axison or not low - edge <= tick.get_loc() <= high + edge:
                    hidden |= {tick.label1, tick.label2}
        if not ax.axison:
            hidden |= {ax.xaxis.label, ax.yaxis.label}
    texts = figure.findobj(Text)
    return [text for text in dict.fromkeys(texts) if text.get_visible() and text not in hidden]


def faults(figure, width: int) -> list[str]:
    """What cannot be read of a figure at a width; nothing where all can."""
    boxes = text_boxes(figure, width)
    height = width * figure.get_figheight() / figure.get_figwidth()
    found = []
    for (one, _, a), (other, _, b) in combinations(boxes, 2):
        if min(a[2], b[2]) - max(a[0], b[0]) > TOUCH and min(a[3], b[3]) - max(a[1], b[1]) > TOUCH:
            found.append(f"{one!r} lies on {other!r}")
    for text, size, (left, low, right, high) in boxes:
        if left < -TOUCH or low < -TOUCH or right > width + TOUCH or high > height + TOUCH:
            found.append(f"{text!r} leaves the figure")
        if width == min(WIDTHS) and size < SMALLEST:
            found.append(f"{text!r} is {size:.1f} pixels high")
    return found
