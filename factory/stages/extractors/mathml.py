"""MathML to TeX, for formulas whose TeX source the page does not carry.

In: a `math` element. Out: TeX that says the same, by the elements of presentation MathML 3; an element it does not know
stands for its children, a character without a command for itself. Deep and endless trees are cut off as text.
"""

from typing import Any

_DEPTH = 60

_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩϵϑϕϱϖς",
        [
            "alpha",
            "beta",
            "gamma",
            "delta",
            "varepsilon",
            "zeta",
            "eta",
            "theta",
            "iota",
            "kappa",
            "lambda",
            "mu",
            "nu",
            "xi",
            "pi",
            "rho",
            "sigma",
            "tau",
            "upsilon",
            "varphi",
            "chi",
            "psi",
            "omega",
            "Gamma",
            "Delta",
            "Theta",
            "Lambda",
            "Xi",
            "Pi",
            "Sigma",
            "Upsilon",
            "Phi",
            "Psi",
            "Omega",
            "epsilon",
            "vartheta",
            "phi",
            "varrho",
            "varpi",
            "varsigma",
        ],
        strict=True,
    )
)
_SYMBOLS = dict(
    zip(
        "∑∏∫∬∭∮∂∇∞±∓×÷·∗∘∙≤≥≠≈≡≅∼≃∝≪≫∈∉∋⊂⊆⊃⊇∪∩∅∀∃∄¬∧∨⊕⊗→←↔⇒⇐⇔↦↑↓⟨⟩⌊⌋⌈⌉‖∣∥⊥∠…⋯⋮⋱′ℏℓℜℑℵ†‡√∖⊢⊨⊤△□⟶⟵⟹⟺∴∵≺≻⪯⪰⋅∐⋃⋂⋁⋀",
        [
            "sum",
            "prod",
            "int",
            "iint",
            "iiint",
            "oint",
            "partial",
            "nabla",
            "infty",
            "pm",
            "mp",
            "times",
            "div",
            "cdot",
            "ast",
            "circ",
            "bullet",
            "leq",
            "geq",
            "neq",
            "approx",
            "equiv",
            "cong",
            "sim",
            "simeq",
            "propto",
            "ll",
            "gg",
            "in",
            "notin",
            "ni",
            "subset",
            "subseteq",
            "supset",
            "supseteq",
            "cup",
            "cap",
            "emptyset",
            "forall",
            "exists",
            "nexists",
            "neg",
            "wedge",
            "vee",
            "oplus",
            "otimes",
            "to",
            "leftarrow",
            "leftrightarrow",
            "Rightarrow",
            "Leftarrow",
            "Leftrightarrow",
            "mapsto",
            "uparrow",
            "downarrow",
            "langle",
            "rangle",
            "lfloor",
            "rfloor",
            "lceil",
            "rceil",
            "|",
            "mid",
            "parallel",
            "perp",
            "angle",
            "ldots",
            "cdots",
            "vdots",
            "ddots",
            "prime",
            "hbar",
            "ell",
            "Re",
            "Im",
            "aleph",
            "dagger",
            "ddagger",
            "surd",
            "setminus",
            "vdash",
            "models",
            "top",
            "triangle",
            "square",
            "longrightarrow",
            "longleftarrow",
            "Longrightarrow",
            "Longleftrightarrow",
            "therefore",
            "because",
            "prec",
            "succ",
            "preceq",
            "succeq",
            "cdot",
            "coprod",
            "bigcup",
            "bigcap",
            "bigvee",
            "bigwedge",
        ],
        strict=True,
    )
)
_COMMANDS = {character: f"\\{name}" for character, name in (_GREEK | _SYMBOLS).items()} | {
    "−": "-",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "#": r"\#",
    "&": r"\&",
    "$": r"\$",
    "_": r"\_",
    "\u2061": "",  # function application, invisible times, separator, plus
    "\u2062": "",
    "\u2063": "",
    "\u2064": "",
    "\u00a0": "~",
}
_FUNCTIONS = frozenset(
    [
        "arccos",
        "arcsin",
        "arctan",
        "arg",
        "cos",
        "cosh",
        "cot",
        "coth",
        "csc",
        "deg",
        "det",
        "dim",
        "exp",
        "gcd",
        "hom",
        "inf",
        "ker",
        "lg",
        "lim",
        "liminf",
        "limsup",
        "ln",
        "log",
        "max",
        "min",
        "Pr",
        "sec",
        "sin",
        "sinh",
        "sup",
        "tan",
        "tanh",
    ]
)
_VARIANTS = {
    "bold": "mathbf",
    "double-struck": "mathbb",
    "script": "mathcal",
    "fraktur": "mathfrak",
    "sans-serif": "mathsf",
    "monospace": "mathtt",
    "normal": "mathrm",
    "bold-italic": "boldsymbol",
}
_ACCENTS = {
    "^": "hat", "ˆ": "hat", "¯": "bar", "‾": "overline", "~": "tilde", "˜": "tilde", r"\to": "vec", "\u20d7": "vec",
    "˙": "dot", "¨": "ddot", "⏞": "overbrace", "ˇ": "check",
}  # fmt: skip
_BELOW = {"_": "underline", "‾": "underline", "⏟": "underbrace", "\u0332": "underline"}
_STYLES = (r"\mathbf{", r"\mathrm{", r"\mathbb{")
_LARGE = tuple(
    f"\\{name}" for name in ("sum", "prod", "int", "lim", "max", "min", "sup", "inf", "big", "coprod", "oint")
)


def mathml_to_tex(math: Any) -> str:
    """The TeX of a `math` element."""
    return " ".join(_children(math, 0).split())


def _children(node: Any, depth: int) -> str:
    return _join(_convert(child, depth + 1) for child in _elements(node))


def _join(pieces: Any) -> str:
    """Pieces set side by side, with a space only where a command would swallow the letter that follows."""
    made = ""
    for piece in pieces:
        if made and piece and made[-1].isalpha() and piece[0].isalpha() and _ends_in_command(made):
            made += " "
        made += piece
    return made


def _ends_in_command(tex: str) -> bool:
    stem = tex.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") if tex[-40:].find("\\") >= 0 else ""
    return stem.endswith("\\")


def _convert(node: Any, depth: int) -> str:
    tag = node.tag
    if depth > _DEPTH:
        return _characters(node.text_content or "")
    name = (tag or "").rpartition(":")[2]
    if name in ("mi", "mn", "mo", "mtext", "ms"):
        return _token(node, name)
    if name in ("annotation", "annotation-xml", "mphantom", "#comment"):
        return ""
    if name == "semantics":
        first = next(iter(_elements(node)), None)
        return _convert(first, depth + 1) if first is not None else ""
    if name == "mspace":
        return r"\\" if node.getattr("linebreak") == "newline" else r"\;" if node.getattr("width") else ""
    if whole := _WHOLES.get(name):
        return str(whole(node, depth))
    build = _BUILDERS.get(name)
    if build is None:
        return _children(node, depth)
    wanted, form = build
    parts = [_convert(child, depth + 1) for child in _elements(node)]
    return str(form(parts)) if len(parts) == wanted else _join(parts)


def _elements(node: Any) -> list[Any]:
    nodes: list[Any] = node.children.values()
    return nodes


def _token(node: Any, name: str) -> str:
    text = " ".join((node.text_content or "").split())
    if name == "mtext":
        return rf"\text{{{text}}}" if text else r"\ "
    if name == "mi" and len(text) > 1 and text.isascii() and text.isalpha():
        return rf"\{text}" if text in _FUNCTIONS else rf"\mathrm{{{text}}}"
    if name == "mo" and text in _FUNCTIONS:
        return rf"\{text}"
    made = _characters(text)
    variant = _VARIANTS.get(node.getattr("mathvariant") or "")
    return rf"\{variant}{{{made}}}" if variant and made and name != "mo" else made


def _characters(text: str) -> str:
    return _join(_COMMANDS.get(character, character) for character in text)


def _group(tex: str) -> str:
    return tex if len(tex) == 1 else f"{{{tex}}}"


def _base(tex: str) -> str:
    simple = len(tex) == 1 or (tex.startswith("\\") and tex[1:].isalpha()) or tex.startswith(_STYLES)
    return tex if simple or not tex else f"{{{tex}}}"


def _over(parts: list[str]) -> str:
    base, above = parts
    if accent := _ACCENTS.get(above):
        return rf"\{accent}{{{base}}}"
    return f"{base}^{_group(above)}" if base.startswith((*_LARGE, r"\overbrace")) else rf"\overset{{{above}}}{{{base}}}"


def _under(parts: list[str]) -> str:
    base, below = parts
    if accent := _BELOW.get(below.replace("\\_", "_")):
        return rf"\{accent}{{{base}}}"
    return (
        f"{base}_{_group(below)}" if base.startswith((*_LARGE, r"\underbrace")) else rf"\underset{{{below}}}{{{base}}}"
    )


def _under_over(parts: list[str]) -> str:
    base, below, above = parts
    return f"{base}_{_group(below)}^{_group(above)}"


_BUILDERS: dict[str, tuple[int, Any]] = {
    "msup": (2, lambda p: f"{_base(p[0])}^{_group(p[1])}" if p[1] != r"\prime" else f"{_base(p[0])}'"),
    "msub": (2, lambda p: f"{_base(p[0])}_{_group(p[1])}"),
    "msubsup": (3, lambda p: f"{_base(p[0])}_{_group(p[1])}^{_group(p[2])}"),
    "mfrac": (2, lambda p: rf"\frac{{{p[0]}}}{{{p[1]}}}"),
    "mroot": (2, lambda p: rf"\sqrt[{p[1]}]{{{p[0]}}}"),
    "mover": (2, _over),
    "munder": (2, _under),
    "munderover": (3, _under_over),
}


def _square_root(node: Any, depth: int) -> str:
    return rf"\sqrt{{{_children(node, depth)}}}"


def _fenced(node: Any, depth: int) -> str:
    left = node.getattr("open", "(")
    right = node.getattr("close", ")")
    mark = (node.getattr("separators", ",") or ",")[0]
    inner = mark.join(_convert(child, depth + 1) for child in _elements(node))
    return rf"\left{_COMMANDS.get(left, left) or '.'}{inner}\right{_COMMANDS.get(right, right) or '.'}"


def _table(node: Any, depth: int) -> str:
    rows = [
        " & ".join(_children(cell, depth + 2) for cell in _elements(row) if cell.tag == "mtd")
        for row in _elements(node)
        if row.tag in ("mtr", "mlabeledtr")
    ]
    return r"\begin{matrix} " + r" \\ ".join(rows) + r" \end{matrix}"


_WHOLES: dict[str, Any] = {"msqrt": _square_root, "mfenced": _fenced, "mtable": _table}
