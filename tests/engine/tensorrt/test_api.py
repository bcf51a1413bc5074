"""Every use of TensorRT in ``engine/tensorrt/`` against the attributes that each supported version has.

The walker follows one version at a time through each function. Of an ``if`` whose test is a comparison of
``api.level``, ``api.is_rtx`` or a predicate of ``versions.py`` it takes the branch that this version takes; other tests
leave both open. It knows ``api.trt.Class.member``, and members of names whose annotation is ``typed.Class``.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path

import pytest

from pspnet_edge.engine.tensorrt import versions
from pspnet_edge.engine.tensorrt.versions import Api

FOLDER = Path(versions.__file__).parent
LISTS = json.loads((Path(__file__).parent / "api" / "tensorrt_api.json").read_text(encoding="utf-8"))
RETURNS = {"create_network": "INetworkDefinition", "create_builder_config": "IBuilderConfig"}


def api_of(version: str) -> Api:
    runtime = "tensorrt-rtx" if version.startswith("rtx-") else "tensorrt"
    return Api(runtime, None, tuple(map(int, version.removeprefix("rtx-").split("."))))


def has(version: str, name: str, member: str | None = None) -> bool:
    having = LISTS["classes"][name]
    wanted = [having.get(member, "")] if member else list(having.values())
    return any(text == "*" or version in text.split() for text in wanted)


class Walker:
    """Follows one version through one file."""

    def __init__(self, version: str, tree: ast.Module) -> None:
        self.wrong: list[str] = []
        self.checked = 0
        self._version, self._api = version, api_of(version)
        self._tree = tree
        self._types: dict[str, str] = {}

    def walk(self) -> Walker:
        annotated = (node for node in ast.walk(self._tree) if isinstance(node, (ast.AnnAssign, ast.arg)))
        for node in annotated:
            self._learn(node.arg if isinstance(node, ast.arg) else ast.unparse(node.target), node.annotation)
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                called = ast.unparse(node.value.func).split(".")[-1]
                if called in RETURNS:
                    self._types[ast.unparse(node.targets[0])] = RETURNS[called]
            if isinstance(node, ast.comprehension) and ast.unparse(node.iter) in self._types:
                self._types[ast.unparse(node.target)] = self._types[ast.unparse(node.iter)]
        self._block(self._tree.body)
        return self

    def _learn(self, name: str, annotation: ast.expr | None) -> None:
        if annotation is not None and (found := re.search(r"\btyped\.(\w+)", ast.unparse(annotation))):
            self._types[name] = found[1]

    def _block(self, body: list[ast.stmt]) -> bool:
        """Visit statements up to one that leaves; whether one did."""
        for statement in body:
            if isinstance(statement, ast.If):
                if self._branch(statement):
                    return True
                continue
            self._visit(statement)
            if isinstance(statement, (ast.Return, ast.Raise, ast.Continue, ast.Break)):
                return True
        return False

    def _branch(self, statement: ast.If) -> bool:
        self._visit(statement.test)
        taken = self._truth(statement.test)
        if taken is not None:
            return self._block(statement.body if taken else statement.orelse)
        left = [self._block(statement.body), self._block(statement.orelse)]
        return all(left) and bool(statement.orelse)

    def _visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Attribute):
            self._check(node)
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                self._visit(value)
                if self._truth(value) is isinstance(node.op, ast.Or):
                    return
            return
        if isinstance(node, ast.IfExp) and (taken := self._truth(node.test)) is not None:
            self._visit(node.body if taken else node.orelse)
            return
        for _, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                self._visit(value)
            elif isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self._block(value)
            elif isinstance(value, list):
                for entry in value:
                    if isinstance(entry, ast.AST):
                        self._visit(entry)

    def _truth(self, test: ast.expr) -> bool | None:
        """What a guard is for this version; None when it does not depend on the version alone."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self._truth(test.operand)
            return None if inner is None else not inner
        if isinstance(test, ast.BoolOp):
            values, decisive = [self._truth(value) for value in test.values], isinstance(test.op, ast.Or)
            return decisive if decisive in values else None if None in values else not decisive
        text = ast.unparse(test)
        if re.fullmatch(r"(self\.)?_?api\.(is_rtx|level (<|>=) \(\d+,( \d+)?\))", text):
            return bool(eval(text.removeprefix("self.").removeprefix("_"), {"api": self._api}))
        if (called := re.fullmatch(r"(\w+)\((self\.)?_?api\)", text)) and hasattr(versions, called[1]):
            predicate = getattr(versions, called[1])
            if inspect.signature(predicate).return_annotation == "bool":
                return bool(predicate(self._api))
        return None

    def _check(self, node: ast.Attribute) -> None:
        owner, member = ast.unparse(node.value), node.attr
        if member.startswith("__"):
            return
        module = re.fullmatch(r"(?:(?:self\.)?_?api\.)?trt(?:\.(\w+))?", owner)
        if module and module[1] is None:
            self._expect(node, member, None)
        elif module:
            self._expect(node, module[1], member)
        elif owner in self._types:
            self._expect(node, self._types[owner], member)

    def _expect(self, node: ast.Attribute, name: str, member: str | None) -> None:
        self.checked += 1
        if name not in LISTS["classes"]:
            self.wrong.append(f"line {node.lineno}: {name} is not in tensorrt_api.json: add it to USED in make.py")
        elif not has(self._version, name, member):
            self.wrong.append(f"line {node.lineno}: {'.'.join(filter(None, [name, member]))} is not in {self._version}")


@pytest.mark.parametrize("version", LISTS["versions"])
def test_each_version_has_what_is_used_of_it(version: str) -> None:
    wrong, checked = [], 0
    for path in sorted(FOLDER.glob("*.py")):
        walker = Walker(version, ast.parse(path.read_text(encoding="utf-8"))).walk()
        wrong += [f"{path.name} {text}" for text in walker.wrong]
        checked += walker.checked
    assert wrong == []
    assert checked > 60


PLANTED = {
    "a removed flag": ("config.set_flag(api.trt.BuilderFlag.FP16)", ["rtx-1.7.1", "11.4"]),
    "behind the wrong guard": (
        "if api.level >= (10,):\n        config.set_flag(api.trt.BuilderFlag.FP16)",
        ["rtx-1.7.1", "11.4"],
    ),
    "behind the right guard": ("if api.level < (11,):\n        config.set_flag(api.trt.BuilderFlag.FP16)", []),
    "after a guard that leaves": ("if api.level >= (11,):\n        return\n    api.trt.BuilderFlag.INT8", []),
    "bindings by index": ("engine.num_bindings", [version for version in LISTS["versions"] if version != "8.6.1"]),
    "a monitor on TensorRT 8": ("config.progress_monitor = None", ["8.6.1"]),
    "a monitor behind its predicate": ("if has_progress_monitor(api):\n        config.progress_monitor = None", []),
    "memory of an engine": ("engine.device_memory_size_v2", ["8.6.1", "10.0.1"]),
    "RTX alone": ("api.trt.ComputeCapability", [version for version in LISTS["versions"] if version != "rtx-1.7.1"]),
    "half a guard": (
        "if api.level < (11,) or config.flags:\n        config.int8_calibrator",
        ["rtx-1.7.1", "11.4"],
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_misuse_is_found(planted: str) -> None:
    line, lacking = PLANTED[planted]
    source = f"def f(api: Api, config: typed.IBuilderConfig, engine: typed.ICudaEngine) -> None:\n    {line}\n"
    found = [version for version in LISTS["versions"] if Walker(version, ast.parse(source)).walk().wrong]
    assert found == lacking
