"""Checks and cleans the records of a saved exported program (`.pt2`) before torch reads them.

`torch.export.load` runs more of a file than its pickles: it evaluates the text of symbolic sizes (sympy), it
imports what tree specifications name, it writes names into Python code that it runs, and it resolves the text of
each node's target by attribute access from `torch`, `operator` and `math`, so that a later pass calls it. Each of
these is held against a list here; metadata and guards that edgec does not use are dropped.
Record names: torch/export/pt2_archive/constants.py (2.13), and the layout of torch 2.6.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from edgec.errors import UserError
from edgec.frontends.archive import Records, checked_saved, without_root

# from_file opens and may create a file.
_OPERATOR: Final = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.(?!from_file\.)"
    r"(?:_?[A-Za-z0-9]\w*|__(?:and|or|xor|iand|ior)__)\.[A-Za-z0-9]\w*"
)
_CONTROL: Final = re.compile(
    r"torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan|map_impl|"
    r"wrap_with_set_grad_enabled|wrap_with_autocast)"
)
_SCALAR: Final = re.compile(
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum)|torch\._sym_\w+|math\.(trunc|floor|ceil|sqrt)"
)
_NAMED: Final = re.compile(r"[A-Za-z_]\w*")
_FUNCTIONS: Final = frozenset(
    [
        "FloorDiv",
        "ModularIndexing",
        "Where",
        "PythonMod",
        "Mod",
        "CleanDiv",
        "CeilToInt",
        "FloorToInt",
        "CeilDiv",
        "PowByNatural",
        "IntTrueDiv",
        "FloatTrueDiv",
        "TruncToInt",
        "ToFloat",
        "Max",
        "Min",
        "Eq",
        "Ne",
        "Identity",
        "true",
        "false",
        "True",
        "False",
    ]
)
_SYMBOL: Final = re.compile(r"[suzfi]\w{0,3}\d+")
_EXPRESSION: Final = re.compile(r"[\w\s+\-*/%(),<>=!&|]{1,4096}")
_TREES: Final = frozenset(
    (
        None,
        "builtins.tuple",
        "builtins.list",
        "builtins.dict",
        "collections.OrderedDict",
        "collections.namedtuple",
        "collections.deque",
        "torch.fx.immutable_collections.immutable_list",
        "torch.fx.immutable_collections.immutable_dict",
    )
)
_BARE: Final = re.compile(r"\w*")
_BARE_NAMES: Final = ("name", "forward_arg_names")
_QUOTED: Final = re.compile(r'[^"\\\x00-\x1f\x7f]*')
_QUOTED_NAMES: Final = (
    *("parameter_name", "buffer_name", "tensor_constant_name", "user_input_name", "custom_obj_name", "fqn"),
)
_TREE_KEY: Final = re.compile(r"[\w.\- ]*")
_KEPT_METADATA: Final = ("stack_trace", "nn_module_stack", "torch_fn")
_PAYLOAD_NAME: Final = re.compile(r"(weight|tensor)_\d{1,6}")
_CONFIG: Final = re.compile(r"data/(weights|constants)/[\w.]+_(weights|constants)_config\.json")
_PLAIN: Final = ("archive_format", "archive_version", "byteorder", "version", ".data/version")
_DROPPED: Final = (".data/serialization_id", ".format_version", ".storage_alignment")
_OLD: Final = {
    "serialized_exported_program.json",
    "serialized_state_dict.pt",
    "serialized_constants.pt",
    "serialized_example_inputs.pt",
    "version",
}


def _refuse(where: str, why: str) -> UserError:
    return UserError(
        "EDGEC-E312",
        "do not open this file unless you trust its maker: export the model again with torch.export.save, "
        f"or pass --trust, which lets the file run its code. The exported program in {where} {why}",
    )


def check_program(text: bytes, where: str) -> bytes:
    """The JSON of an exported program with its unused parts dropped; UserError EDGEC-E312 where it could run
    code."""
    try:
        program = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError("EDGEC-E302", f"export the model again. {where} is corrupt: {error}") from None
    if not isinstance(program, dict):
        raise UserError("EDGEC-E302", f"export the model again. {where} is no exported program")
    program["guards_code"] = []
    for name in program.get("range_constraints") or {}:
        _check_expression(name, where)
    for record in _dictionaries(program):
        _check_record(record, where)
    return json.dumps(program).encode()


def _check_record(record: dict[str, Any], where: str) -> None:
    _check_names(record, where)
    if "target" in record and "outputs" in record:
        _check_target(record["target"], where)
        metadata = record.get("metadata") or {}
        record["metadata"] = {key: metadata[key] for key in _KEPT_METADATA if key in metadata}
    if "expr_str" in record:
        _check_expression(record["expr_str"], where)
    for key in ("in_spec", "out_spec", "out_tree_spec", "in_tree_spec"):
        if record.get(key):
            _check_tree(record[key], where)
    for key in ("as_operator", "as_custom_obj", "custom_obj"):
        if key in record and not (key == "as_operator" and _is_operator(record[key])):
            raise _refuse(where, f"holds a {key} argument, {str(record[key])[:80]!a}")


def _check_names(record: dict[str, Any], where: str) -> None:
    """Names end up bare or between double quotes in the code that torch.fx generates."""
    for key, value in record.items():
        for text in value if isinstance(value, list) and key == "forward_arg_names" else (value,):
            if key in _BARE_NAMES and isinstance(text, str) and not _BARE.fullmatch(text):
                raise _refuse(where, f"has the {key} {text[:80]!a}, which is no identifier")
            if key in _QUOTED_NAMES and isinstance(text, str) and not _QUOTED.fullmatch(text):
                raise _refuse(where, f"has the {key} {text[:80]!a} with quotes, backslashes or line ends")


def _dictionaries(tree: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in `tree`, without recursion."""
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _is_operator(target: object) -> bool:
    return isinstance(target, str) and any(rule.fullmatch(target) for rule in (_OPERATOR, _CONTROL, _SCALAR))


def _check_target(target: object, where: str) -> None:
    # A library's own operator stays text in the graph and is reported as unsupported.
    if not _is_operator(target) and not _is_foreign_operator(target):
        raise _refuse(where, f"calls {str(target)[:80]!a}, which is no tensor operator")


def _is_foreign_operator(target: object) -> bool:
    """`torch.ops.<library>.<name>.<overload>` of a library that is not part of PyTorch itself."""
    parts = target.split(".") if isinstance(target, str) else []
    builtin = {"load_library", "import_module", "higher_order", "inductor", "debugprims", "rngprims", "c10d"}
    return (
        len(parts) == 5
        and parts[:2] == ["torch", "ops"]
        and all(_NAMED.fullmatch(p) and not p.startswith("_") for p in parts[2:])
        and parts[2] not in builtin
    )


def _check_expression(text: object, where: str) -> None:
    """Sizes are arithmetic over symbols (`s0`) and listed functions: no dots, quotes or other names."""
    if not isinstance(text, str) or not _EXPRESSION.fullmatch(text):
        raise _refuse(where, f"has the size expression {str(text)[:80]!a}")
    for name in re.findall(r"[A-Za-z_]\w*", text):
        if name not in _FUNCTIONS and not _SYMBOL.fullmatch(name):
            raise _refuse(where, f"uses {name!a} in the size expression {text[:80]!a}")


def _check_tree(text: object, where: str) -> None:
    """A tree specification names only plain containers, and its context holds no object to import."""
    try:
        tree = json.loads(text) if isinstance(text, str) else None
        for record in _dictionaries(tree):
            if record.get("type") not in _TREES:
                raise _refuse(where, f"has an input or output of the type {str(record.get('type'))[:80]!a}")
            context = record.get("context")
            decoded = json.loads(context) if isinstance(context, str) and record.get("type") else context
            if any("__enum__" in inner for inner in _dictionaries(decoded)):
                raise _refuse(where, "names an enumeration to import in an input or output")
            for key in decoded if isinstance(decoded, list) else (decoded,):
                if isinstance(key, str) and not _TREE_KEY.fullmatch(key):
                    raise _refuse(where, f"has an input or output called {key[:80]!a}")
    except (ValueError, TypeError, RecursionError):
        raise _refuse(where, "has an unreadable tree of inputs or outputs") from None


def checked_program_records(records: Records, where: str) -> Records:
    """The records of a `.pt2` file that torch may read. Raises UserError EDGEC-E310, -E311 or -E312."""
    if "serialized_exported_program.json" in records:
        return _checked_old(records, where)
    if len({name.partition("/")[0] for name in records}) != 1:
        raise _refuse(where, "has records in more than one top folder")
    pickled = _pickled_payloads(records, where)
    kept: Records = {}
    for name, content in records.items():
        inner, place = without_root(name), f"{where}:{name}"
        if inner in _DROPPED or inner.startswith("extra/"):
            continue
        if inner.startswith("models/") and inner.endswith(".json"):
            kept[name] = check_program(content, place)
        elif inner.startswith("data/sample_inputs/") or inner in pickled or _is_legacy_payload(inner):
            kept[name] = checked_saved(content, place)
        elif inner in _PLAIN or _CONFIG.fullmatch(inner) or _is_payload(inner):
            kept[name] = content
        else:
            raise _refuse(where, f"holds the record {name[:80]!a}, which is not part of an exported program")
    return kept


def _is_payload(inner: str) -> bool:
    folder, _, name = inner.rpartition("/")
    return folder in ("data/weights", "data/constants") and _PAYLOAD_NAME.fullmatch(name) is not None


def _is_legacy_payload(inner: str) -> bool:
    return inner.startswith(("data/weights/", "data/constants/")) and inner.endswith(".pt")


def _pickled_payloads(records: Records, where: str) -> set[str]:
    """Names of the weight and constant records that torch unpickles."""
    pickled: set[str] = set()
    for name, content in records.items():
        inner = without_root(name)
        if not _CONFIG.fullmatch(inner):
            continue
        try:
            entries = json.loads(content)["config"].values()
            for entry in entries:
                path = entry["path_name"]
                if not isinstance(path, str) or not _PAYLOAD_NAME.fullmatch(path):
                    raise _refuse(where, f"holds an object that is no tensor, {str(path)[:80]!a}")
                if entry["use_pickle"]:
                    pickled.add(inner.rpartition("/")[0] + "/" + path)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError("EDGEC-E302", f"export the model again. {where}:{name} is corrupt") from None
    return pickled


def _checked_old(records: Records, where: str) -> Records:
    kept: Records = {}
    for name, content in records.items():
        place = f"{where}:{name}"
        if name.startswith("extra_files/"):
            continue
        if name not in _OLD:
            raise _refuse(where, f"holds the record {name[:80]!a}, which is not part of an exported program")
        if name.endswith(".json"):
            kept[name] = check_program(content, place)
        else:
            kept[name] = checked_saved(content, place) if name.endswith(".pt") else content
    return kept
