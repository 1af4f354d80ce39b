"""Formulas in LaTeX as drawings inside of the page.

So they look alike everywhere, and no script or font has to be loaded. MathML was tried: without a mathematical font,
which most systems lack, browsers set it badly.
"""

from __future__ import annotations

import re
from itertools import groupby

from docs.site.markdown import with_code

FORMULA = re.compile(
    r"(`+)(?:(?!\1).)+?\1"  # a piece of code, which is left as it is
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\w\\$])\$(?![\s$])(?P<inline>[^$\n]+?)(?<![\s\\])\$(?![\w$])",
    re.DOTALL,
)
SIZE = 100.0  # of the drawing: so that one digit behind the point is enough
EM = 90.0  # of the text around it, whose letters are larger than those of the formulas


def rendered(text: str) -> str:
    """A page with its formulas drawn, those between $ in the line and those between $$ on lines of their own."""
    parts = groupby(with_code(text.splitlines()), key=lambda pair: pair[1])
    blocks = ((is_code, "\n".join(line for line, _ in pairs)) for is_code, pairs in parts)
    return "\n".join(block if is_code else FORMULA.sub(_formula, block) for is_code, block in blocks)


def _formula(match: re.Match[str]) -> str:
    latex, inline = match["block"] or match["inline"], match["inline"] is not None
    if latex is None:  # a piece of code
        return match[0]
    drawing = _drawing(" ".join(latex.split()), inline)
    return drawing if inline else f'\n<div class="formula">{drawing}</div>\n'


def _drawing(latex: str, inline: bool) -> str:
    """The SVG of a formula, with the LaTeX as its name for those who do not see it."""
    import ziafont
    import ziamath

    ziafont.config.precision = 1  # digits; without any, it drops the zeros of 10 and 100
    ziamath.config.svg2 = False  # whose shared symbols have ids, which would stand in a page many times
    formula = ziamath.Latex(latex, size=SIZE, color="currentColor", inline=inline)
    name = "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in latex)

    def head(match: re.Match[str]) -> str:
        width, height, below = (float(length) / EM for length in (match[1], match[2], formula.getyofst()))
        style = f"width:{width:.2f}em;height:{height:.2f}em;vertical-align:{below:.2f}em"
        return f'<svg role="img" aria-label="{name}" style="{style}"'

    return re.sub(r'^<svg [^>]*?width="([\d.]+)" height="([\d.]+)"', head, formula.svg().replace("\n", ""))
