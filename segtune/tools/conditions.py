"""Conditions on tiles, such as ``share(2) > 0.05 and valid > 0.9``: a small language that can only compare numbers."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from segtune.errors import InputError, nearest_or_all, short

_LONGEST = 500  # characters of a condition
FLAG = "--where"


@dataclass(frozen=True)
class TileFacts:
    """What a condition can ask of a tile."""

    pixels: Mapping[int, int]  # of each label in the mask, also of those without data in the image
    width: int
    height: int
    valid: float  # share of the pixels that hold data in the image and the channels
    labelled: float  # share of the pixels that have a label, and not an ignored one

    def share(self, label: int) -> float:
        """Return the share of a label among all pixels of the tile."""
        return self.pixels.get(label, 0) / (self.width * self.height)


class ConditionError(InputError):
    """A condition cannot be computed for a tile; it is wrong, and the tile is sound."""


Condition = Callable[[TileFacts], bool]
_Number = Callable[[TileFacts], float]
_NAMES: Mapping[str, _Number] = {
    "valid": lambda facts: facts.valid,
    "labelled": lambda facts: facts.labelled,
    "width": lambda facts: facts.width,
    "height": lambda facts: facts.height,
}
_FUNCTIONS: Mapping[str, Callable[[TileFacts, int], float]] = {
    "share": lambda facts, label: facts.share(label),
    "pixels": lambda facts, label: facts.pixels.get(label, 0),
}
KNOWN = "share(LABEL), pixels(LABEL), valid, labelled, width, height"
_COMPARED: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_COMPUTED: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def parse_condition(text: str) -> Condition:
    """Return a function that says whether a condition holds for a tile.

    Nothing is executed: the text is parsed, and each part must be a number, one of the known names and functions, an
    operation (+ - * /), a comparison, `and`, `or` or `not`. Raises InputError that names the part that is not. The
    function raises ConditionError where a tile leads to a division by zero.
    """
    if len(text) > _LONGEST:
        raise InputError(f"{FLAG}: is longer than {_LONGEST} characters; use several steps")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(f"{FLAG}: {short(text)} is no condition, such as 'share(2) > 0.05 and valid > 0.9'") from None
    return _condition(tree.body, text.strip())


def _condition(node: ast.expr, text: str) -> Condition:
    if isinstance(node, ast.BoolOp):
        parts = [_condition(value, text) for value in node.values]
        every = isinstance(node.op, ast.And)
        return lambda facts: all(part(facts) for part in parts) if every else any(part(facts) for part in parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        part = _condition(node.operand, text)
        return lambda facts: not part(facts)
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARED for op in node.ops):
        values = [_number(value, text) for value in (node.left, *node.comparators)]
        steps = [_COMPARED[type(op)] for op in node.ops]

        def holds(facts: TileFacts) -> bool:
            found = [value(facts) for value in values]
            return all(step(a, b) for step, a, b in zip(steps, found, found[1:], strict=False))

        return holds
    raise InputError(f"{FLAG}: {_part(node, text)} says nothing that is true or false; compare it, such as valid > 0.9")


def _number(node: ast.expr, text: str) -> _Number:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        value = _finite(node.value, text)
        return lambda facts: value
    if isinstance(node, ast.Name):
        if node.id in _NAMES:
            return _NAMES[node.id]
        hint = f"; write {node.id}(LABEL)" if node.id in _FUNCTIONS else nearest_or_all(node.id, [*_NAMES, *_FUNCTIONS])
        raise InputError(f"{FLAG}: there is no {short(node.id)}{hint}")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand, text)
        return lambda facts: -inner(facts)
    if isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        left, right, compute = _number(node.left, text), _number(node.right, text), _COMPUTED[type(node.op)]

        def computed(facts: TileFacts) -> float:
            try:
                return compute(left(facts), right(facts))
            except ZeroDivisionError:
                raise ConditionError(f"{FLAG}: {_part(node, text)} divides by zero") from None

        return computed
    if isinstance(node, ast.Call):
        return _call(node, text)
    raise InputError(f"{FLAG}: {_part(node, text)} is no number; known are numbers, {KNOWN}")


def _finite(number: int | float, text: str) -> float:
    try:
        return float(number)
    except OverflowError:
        raise InputError(f"{FLAG}: a number in {short(text)} is too large") from None


def _call(node: ast.Call, text: str) -> _Number:
    """Return the function of a call such as ``share(2)``."""
    if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
        raise InputError(f"{FLAG}: {_part(node, text)} is not known; known are {KNOWN}")
    label = None
    if len(node.args) == 1 and not node.keywords:
        argument = node.args[0]
        negative = isinstance(argument, ast.UnaryOp) and isinstance(argument.op, ast.USub)
        inner = argument.operand if isinstance(argument, ast.UnaryOp) and negative else argument
        if isinstance(inner, ast.Constant) and type(inner.value) is int:
            label = -inner.value if negative else inner.value
    if label is None:
        raise InputError(f"{FLAG}: {_part(node, text)}: {node.func.id} takes one label, such as {node.func.id}(2)")
    function, of = _FUNCTIONS[node.func.id], label
    return lambda facts: function(facts, of)


def _part(node: ast.expr, text: str) -> str:
    return short(ast.get_source_segment(text, node) or text)
