"""Modules with one thing wrong each: a comparison, a sign, a number, two names that trade places.

Not made are mutants that no test should tell apart: of docstrings, annotations, error texts,
imports, decorators, of the keywords in `CHECKS`, and of what both sides have alike. A tolerance
against rounding is made WIDER times as wide: twice as wide, or with its end, it is as good.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import NamedTuple

OPERATORS = {
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.Eq: ast.NotEq,
    ast.Is: ast.IsNot,
    ast.In: ast.NotIn,
    ast.Add: ast.Sub,
    ast.Mult: ast.Div,
    ast.And: ast.Or,
    ast.BitAnd: ast.BitOr,
}
OPERATORS |= {new: old for old, new in OPERATORS.items()}
OPERATORS |= {ast.Pow: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult}
TOLERANCE, WIDER = 1e-6, 10**6  # numbers between 0 and this are tolerances
NEGATED = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)  # their mutant is the opposite

# what is easily taken for one another
PAIRS = """
    lost gained, low high, base tuned, before after, min max, any all, floor ceil, sf cdf, isf ppf,
    p_value p_holm, p_equivalence p_equivalence_holm, FORGOT IMPROVED, WORSE BETTER, x y,
    alpha margin
"""
TWINS = dict(pair.split() for pair in PAIRS.split(","))
TWINS |= {new: old for old, new in TWINS.items()}

UNTOUCHED = {"annotation", "returns", "decorator_list", "format_spec"}
CHECKS = {"strict", "kind", "dtype"}  # keywords of which no result depends on right input


class _Scope(NamedTuple):
    """Where a node stands."""

    within: str  # the function's qualified name; "" outside functions
    names: frozenset[str]  # of the function
    lines: frozenset[int]  # one of which a test must reach
    at_import: bool  # outside functions, or a default value: wrong only in a fresh import


class _Place(NamedTuple):
    """An expression's place: a field of a node, or one entry of a field that is a list."""

    parent: ast.AST
    field: str
    index: int | None
    node: ast.expr
    scope: _Scope

    def put(self, node: ast.expr) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


class Mutant(NamedTuple):
    """One wrong expression of a module."""

    path: Path
    file: str  # from the checkout
    line: str  # text of the line
    change: str  # "a < b -> a <= b"; " (2)" where the line has it twice
    tree: ast.Module
    place: _Place
    wrong: ast.expr

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is known by while other lines move: file, function, line, change."""
        return self.file, self.place.scope.within, self.line, self.change

    def code(self) -> CodeType:
        """The code of the whole module with this wrong."""
        self.place.put(ast.copy_location(self.wrong, self.place.node))
        code = compile(ast.fix_missing_locations(self.tree), str(self.path), "exec")
        self.place.put(self.place.node)
        return code


def mutants(checkout: Path, file: str) -> list[Mutant]:
    """All mutants of one module, in the order of its text."""
    path = checkout / file
    text = path.read_text(encoding="utf-8")
    tree, rows = ast.parse(text), text.splitlines()
    scope = _Scope("", _names(tree), frozenset(range(len(rows) + 1)), True)
    found: list[Mutant] = []
    times: Counter[tuple[str, str, str]] = Counter()
    for place in _places(tree, scope):
        for wrong, change in _wrong(place):
            line = rows[place.node.lineno - 1].strip()
            times[where := (place.scope.within, line, change)] += 1
            again = f" ({times[where]})" if times[where] > 1 else ""
            found.append(Mutant(path, file, line, change + again, tree, place, wrong))
    return found


# ---- where ----


def _places(parent: ast.AST, scope: _Scope) -> Iterator[_Place]:
    for field, value in ast.iter_fields(parent):
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if field in UNTOUCHED or not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            inner = _inside(child, parent, scope)
            if isinstance(child, ast.expr):
                yield _Place(parent, field, index, child, inner)
            yield from _places(child, inner)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.keyword):
        return node.arg in CHECKS
    return isinstance(node, (ast.Raise, ast.Import, ast.ImportFrom))


def _inside(node: ast.AST, parent: ast.AST, scope: _Scope) -> _Scope:
    """Scope of what stands inside a node: a statement of a function is reached by its own lines.

    Default values are reached by all lines of their function, other values at import by all of the
    module.
    """
    at_import = scope.at_import and not isinstance(parent, ast.FunctionDef)
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        scope = scope._replace(within=f"{scope.within}.{node.name}".lstrip("."))
    if isinstance(node, ast.FunctionDef):
        lines = frozenset(range(node.lineno, node.end_lineno + 1))
        return _Scope(scope.within, scope.names | _names(node), lines, at_import)
    if isinstance(node, ast.stmt) and not at_import:
        last = node.body[0].lineno - 1 if hasattr(node, "body") else node.end_lineno
        lines = frozenset(range(node.lineno, max(last, node.lineno) + 1))
        return scope._replace(lines=lines, at_import=False)
    return scope


def _names(node: ast.AST) -> frozenset[str]:
    """Names that a function or module gives values to."""
    found = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return frozenset(found | {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)})


# ---- what ----


def _wrong(place: _Place) -> Iterator[tuple[ast.expr, str]]:
    """What may stand there instead, and the change in words."""
    if _is_of_both(place.parent):
        return
    was = ast.unparse(place.node)
    for wrong in _instead(place.node, place.scope.names):
        yield wrong, f"{was} -> {ast.unparse(wrong)}"
    if place.field in ("test", "ifs") and not _is_negated_already(place.node):
        yield ast.UnaryOp(ast.Not(), place.node), f"{was} -> its opposite"
    if isinstance(place.node, ast.Call):
        for keyword in place.node.keywords:
            if keyword.arg not in CHECKS | {None}:
                others = [other for other in place.node.keywords if other is not keyword]
                yield _with(place.node, keywords=others), f"{ast.unparse(keyword)} -> left out"


def _is_of_both(node: ast.AST) -> bool:
    """Whether what is asked of one side is the same of the other: its task, or how long it is."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("task", "shape")
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "len"


def _instead(node: ast.expr, names: frozenset[str]) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(ops=operators):
            for i, op in enumerate(operators):
                if isinstance(op, NEGATED) or not _is_tolerance(node.comparators[i]):
                    yield _with(node, ops=[*operators[:i], _opposite(op), *operators[i + 1 :]])
        case ast.BinOp(left, op, right) if not (_is_text(left) or _is_text(right)):
            if type(op) in OPERATORS:
                yield _with(node, op=_opposite(op))
        case ast.BoolOp(op=op):
            yield _with(node, op=_opposite(op))
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(float(value)):
            yield ast.Constant((WIDER if _is_tolerance(node) else 2) * value or 1.0)
        case ast.Name(name, ast.Load()) if TWINS.get(name) in names | {"min", "max", "any", "all"}:
            yield _with(node, id=TWINS[name])
        case ast.Attribute(_, name, ast.Load()) if name in TWINS:
            yield _with(node, attr=TWINS[name])


def _opposite(op: ast.AST) -> ast.AST:
    return OPERATORS[type(op)]()


def _is_negated_already(test: ast.expr) -> bool:
    if isinstance(test, ast.Compare):
        return len(test.ops) == 1 and isinstance(test.ops[0], NEGATED)
    return isinstance(test, ast.UnaryOp)


def _is_tolerance(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_tolerance(node.operand)
    value = getattr(node, "value", None)
    return isinstance(value, float) and 0 < value <= TOLERANCE


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _with(node: ast.expr, **fields: object) -> ast.expr:
    return type(node)(**dict(ast.iter_fields(node)) | fields)
