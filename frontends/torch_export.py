"""An exported PyTorch program becomes a Program with one graph, `infer`.

Known operators stay whole; others are decomposed by PyTorch's own rules as far as these lead to known ones. What
depends on constants alone is computed here by PyTorch. int64 becomes i32, float64 constants become f32. Inputs
and outputs keep the user's layout (identity axes); the layout pass changes that.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edgec.build import Builder
from edgec.errors import InternalError, UserError
from edgec.frontends.checkpoint import first_line
from edgec.frontends.quiet import quiet
from edgec.frontends.torch_call import Call, Ref, Result, Unsupported
from edgec.frontends.torch_loc import loc_of
from edgec.frontends.torch_ops import IGNORED, TABLE
from edgec.frontends.torch_weights import Held, constant_of, dtype_of, initial_of
from edgec.ir import Constant, Loc, Persistence, Program, Type

if TYPE_CHECKING:
    import torch

MAX_ELEMENTS: Final = (1 << 31) - 1  # C indexes with int32
MAX_RANK: Final = 6
MAX_FOLDED_ELEMENTS: Final = 1 << 26
LAYERS: Final = ("linear", "addmm", "conv1d", "conv2d", "convolution", "conv_transpose2d")

Weights = Callable[[str], Constant | None]


@dataclass(frozen=True, slots=True)
class Missing:
    """One node whose operator, or this use of it, is not supported."""

    what: str
    why: str
    loc: Loc


def import_program(program: torch.export.ExportedProgram, weights: Weights | None = None) -> Program:
    """The Program of an exported program. Raises UserError EDGEC-E321, -E322, -E324, -E33x and -E401.

    `weights` gives the constant of a parameter by its qualified name, so that its content is read when it is
    needed; None where the module's own tensor is to be entered.
    """
    try:
        with quiet():
            plain = canonical(program)
    except Exception as error:  # PyTorch's passes run the program on stand-in tensors and may raise anything
        raise UserError(
            "EDGEC-E321",
            "export the model again with this PyTorch. Its decomposition of the exported program failed with "
            f"{type(error).__name__}: {first_line(error)}",
        ) from error
    return _Importer(plain, weights).run()


def is_known(target: Any) -> bool:
    """Whether the table has the operator of an overload such as aten.add.Tensor."""
    return operator_name(target) in TABLE or operator_name(target) in IGNORED


def operator_name(target: Any) -> str:
    """`add` of aten.add.Tensor; the whole text of what is no operator of PyTorch's own library."""
    schema = getattr(target, "_schema", None)
    space, _, name = schema.name.partition("::") if schema is not None else ("", "", "")
    return name if space == "aten" else str(target)


def canonical(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Functional form, known operators whole, unknown ones decomposed as far as PyTorch has rules for them."""
    import torch

    rules: Any = torch.export.default_decompositions()
    chosen: dict[Any, Any] = {}
    result: torch.export.ExportedProgram = program.run_decompositions({})
    for _ in range(8):
        found = {n.target for n in result.graph.nodes if n.op == "call_function"}
        more = {target: rules[target] for target in found if target in rules and not is_known(target)}
        if not more:
            break
        chosen |= more
        result = result.run_decompositions(chosen)
    return result


class _Importer:
    """State of one import: the Builder, and what each node of the torch graph has become."""

    def __init__(self, program: torch.export.ExportedProgram, weights: Weights | None = None) -> None:
        self.program = program
        self.weights = weights
        self.b = Builder("infer")
        self.values: dict[Any, Any] = {}
        self.missing: list[Missing] = []
        self.held: dict[int, Ref] = {}

    def run(self) -> Program:
        signature = self.program.graph_signature
        if getattr(signature, "user_inputs_to_mutate", None):
            names = ", ".join(sorted(signature.user_inputs_to_mutate.values()))
            raise UserError(
                "EDGEC-E324", f"return the new value instead: the model writes into its input {names!a}"
            )
        for node in self.program.graph.nodes:
            self.b.loc = loc_of(node)
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "call_function":
                self._check_sizes(node)
                self.values[node] = self._call(node)
            elif node.op == "get_attr":
                self.values[node] = self._attribute(node)
            elif node.op == "output":
                self._outputs(node)
        if self.missing:
            raise _unsupported(self.missing)
        return _used(self.b.program())

    # Inputs, parameters, buffers

    def _placeholder(self, node: torch.fx.Node) -> None:
        signature = self.program.graph_signature
        name = node.name
        for table in (signature.inputs_to_parameters, signature.inputs_to_buffers):
            if name in table:
                self.values[node] = self._weight(table[name], name in signature.inputs_to_parameters)
                return
        if name in signature.inputs_to_lifted_tensor_constants:
            target = signature.inputs_to_lifted_tensor_constants[name]
            self.values[node] = Held(self.program.constants[target], target, False)
        elif _is_tensor(node.meta.get("val")):
            self._check_sizes(node)
            self.values[node] = Ref(self.b.input(name, self._type(node, node.meta["val"], True)))
        elif name in signature.inputs_to_lifted_custom_objs:
            raise UserError(
                "EDGEC-E323", f"take the custom object {name!a} out of the model; tensors are supported"
            )
        else:
            self.values[node] = node.meta.get("val")

    def _weight(self, target: str, is_parameter: bool) -> Any:
        given = self.weights(target) if self.weights is not None and is_parameter else None
        if given is not None:
            return Ref(self.b.constant(given, target))
        source = self.program.state_dict if target in self.program.state_dict else self.program.constants
        held = Held(source[target], target, is_parameter)
        if target not in self.program.graph_signature.buffers_to_mutate.values():
            return held
        return Ref(self.b.add_state(target, initial_of(held), Persistence.RESET))

    def _attribute(self, node: torch.fx.Node) -> Any:
        """A constant tensor, or the body of a higher-order operator."""
        value: Any = self.program.graph_module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return Held(value, str(node.target), False) if _is_tensor(value) else value

    def _check_sizes(self, node: torch.fx.Node) -> None:
        for value in _tensors(node.meta.get("val")):
            sizes = [s if isinstance(s, int) else str(s) for s in value.shape]
            if any(isinstance(s, str) for s in sizes):
                axis = next(i for i, s in enumerate(sizes) if isinstance(s, str))
                raise UserError(
                    "EDGEC-E322",
                    f"export the model with fixed sizes (no dynamic_shapes). Axis {axis} of {node.name!a} "
                    f"{sizes} has a size known only at run time, at {self.b.loc}",
                )
            if value.numel() > MAX_ELEMENTS:
                raise UserError(
                    "EDGEC-E331",
                    f"make the tensor smaller. {node.name!a} {sizes} has {value.numel()} elements at {self.b.loc}; "
                    f"the limit is {MAX_ELEMENTS} (sizes are 32-bit integers in C)",
                )
            if len(sizes) > MAX_RANK:
                raise UserError(
                    "EDGEC-E332",
                    f"reshape to fewer axes. {node.name!a} {sizes} has {len(sizes)} axes at {self.b.loc}; "
                    f"the limit is {MAX_RANK}",
                )

    def _type(self, node: torch.fx.Node, value: torch.Tensor, is_input: bool = False) -> Type:
        return Type(
            tuple(int(s) for s in value.shape), dtype_of(value.dtype, node.name, self.b.loc, is_input)
        )

    # Operators

    def _call(self, node: torch.fx.Node) -> Any:
        if node.target is operator.getitem:
            return self._item(node)
        name = operator_name(node.target)
        if name in IGNORED or name.endswith("_set_grad_enabled"):
            return None
        if name in ("wrap_with_set_grad_enabled", "wrap_with_autocast") and node.target is not name:
            return self._inline(node)
        arguments = [self.values[n] for n in node.all_input_nodes if n in self.values]
        if all(isinstance(a, Held) for a in arguments) and _is_foldable(node):
            return self._fold(node)
        importer = TABLE.get(name)
        if importer is None:
            return self._not_supported(node, "")
        try:
            return self._checked(node, importer(self._arguments(node)))
        except Unsupported as error:
            return self._not_supported(node, str(error))

    def _arguments(self, node: torch.fx.Node) -> Call:
        args: dict[str, Any] = {}
        for i, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
            if argument.name in node.kwargs:
                value: Any = node.kwargs[argument.name]
            elif i < len(node.args):
                value = node.args[i]
            else:
                value = argument.default_value
            args[argument.name] = self._value(value)
        out = tuple(self._type(node, t) for t in _tensors(node.meta["val"]))
        return Call(self.b, str(node.target), args, out)

    def _value(self, value: Any) -> Any:
        """An argument with nodes replaced by what they have become, constants entered in the Program."""
        import torch

        if isinstance(value, torch.fx.Node):
            found = self.values[value]
            return self._reference(found) if isinstance(found, Held) else found
        if isinstance(value, (list, tuple)):
            return [self._value(v) for v in value]
        return value

    def _reference(self, held: Held) -> Ref:
        key = id(held.tensor)
        if key not in self.held:
            self.held[key] = Ref(self.b.constant(constant_of(held), held.name))
        return self.held[key]

    def _item(self, node: torch.fx.Node) -> Any:
        source: Any = node.args[0]
        value = self.values[source][node.args[1]]
        if value is None:
            return self._not_supported(source, f"output {node.args[1]} of this operator")
        return value if isinstance(value, Held) else Ref(value)

    def _fold(self, node: torch.fx.Node) -> Any:
        """The operator computed by PyTorch itself, since all that it reads is constant."""
        import torch

        def tensor(value: Any) -> Any:
            return self.values[value].tensor

        args, kwargs = torch.fx.map_arg((node.args, dict(node.kwargs)), tensor)
        kwargs = {k: v for k, v in kwargs.items() if k not in ("device", "pin_memory", "layout")}
        with torch.no_grad():
            result = node.target(*args, **kwargs)  # type: ignore[operator]
        sources = [self.values[n] for n in node.all_input_nodes]
        name = sources[0].name if len(sources) == 1 else node.name
        if isinstance(result, (list, tuple)):
            return tuple(Held(r, f"{name}.{i}", False) for i, r in enumerate(result))
        return Held(result, name, False)

    def _inline(self, node: torch.fx.Node) -> Any:
        """The body of an operator that only sets a mode, imported in place."""
        at = next(i for i, a in enumerate(node.args) if _is_node(a) and _is_graph(self.values.get(a)))
        body = self.values[node.args[at]]
        given = iter(node.args[at + 1 :])
        for inner in body.graph.nodes:
            if inner.op == "placeholder":
                self.values[inner] = self.values[next(given)]
            elif inner.op == "call_function":
                self.values[inner] = self._call(inner)
            elif inner.op == "output":
                return tuple(self.values[v] for v in inner.args[0])
        return ()

    def _checked(self, node: torch.fx.Node, result: Result) -> Any:
        """The result, its types compared with PyTorch's. A difference is a bug of an importer."""
        values = [result] if isinstance(result, str) else list(result)
        expected = _tensors(node.meta["val"])
        for ref, value in zip(values, expected, strict=True):
            if ref is None:
                continue
            own, theirs = self.b.types[ref], self._type(node, value)
            if (own.dims, own.dtype) != (theirs.dims, theirs.dtype):
                raise InternalError(
                    f"{node.target} at {self.b.loc} was imported as {own}, PyTorch has {theirs}"
                )
        if isinstance(result, str):
            return Ref(result)
        return [r if r is None else Ref(r) for r in values]

    def _not_supported(self, node: torch.fx.Node, why: str) -> Any:
        """Note it and go on with values of the right types, so that one report has all of them."""
        target = str(node.target)
        if (
            not any(m.what == target and m.why == why and m.loc == self.b.loc for m in self.missing)
            or not why
        ):
            self.missing.append(Missing(target, why, self.b.loc))
        values = node.meta.get("val")
        refs = [self._stand_in(node, t) for t in _tensors(values)]
        return refs if isinstance(values, (list, tuple)) else (refs[0] if refs else None)

    def _stand_in(self, node: torch.fx.Node, value: torch.Tensor) -> Ref:
        ref = self.b.fresh("unsupported")
        self.b.types[ref] = self._type(node, value)
        return Ref(ref)

    # Outputs

    def _outputs(self, node: torch.fx.Node) -> None:
        signature = self.program.graph_signature
        results: Sequence[Any] = node.args[0]  # type: ignore[assignment]
        labels = iter(_output_labels(self.program))
        user = 0
        for spec, result in zip(signature.output_specs, results, strict=True):
            kind = spec.kind.name
            if kind == "BUFFER_MUTATION":
                ref = "$" + self._state_of(spec.target)
                self.b.updates.append((ref[1:], self._tensor(self.values[result])))
            elif kind == "USER_OUTPUT":
                label = next(labels, f"output_{user}")
                user += 1
                if (
                    result is None
                    or result not in self.values
                    or not isinstance(self.values[result], (Ref, Held))
                ):
                    continue  # a plain number or None: nothing to compute
                self.b.output(self._tensor(self.values[result]), label)
        if not self.b.outputs:
            raise UserError("EDGEC-E323", "return at least one tensor: the model returns none")

    def _state_of(self, target: str) -> str:
        signature = self.program.graph_signature
        for node, value in self.values.items():
            if signature.inputs_to_buffers.get(node.name) == target:
                return str(value)[1:]
        raise InternalError(f"the buffer {target!a} is written and has no input")

    def _tensor(self, value: Any) -> Ref:
        return self._reference(value) if isinstance(value, Held) else Ref(value)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _is_node(value: Any) -> bool:
    import torch

    return isinstance(value, torch.fx.Node)


def _is_graph(value: Any) -> bool:
    import torch

    return isinstance(value, torch.fx.GraphModule)


def _tensors(value: Any) -> list[Any]:
    """The tensors that a node's recorded value has."""
    if isinstance(value, (list, tuple)):
        return [v for v in value if _is_tensor(v)]
    return [value] if _is_tensor(value) else []


def _is_foldable(node: torch.fx.Node) -> bool:
    """A pure operator of PyTorch's own library, whose result is not too large; no layer: its weight may be one that
    learns. The pass `fold` computes those where nothing learns."""
    import torch

    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target.namespace not in ("aten", "prims"):
        return False
    if target._schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags:
        return False
    values = _tensors(node.meta.get("val"))
    if operator_name(target).startswith(("empty", "new_empty")) or operator_name(target) in LAYERS:
        return False
    return bool(values) and all(v.numel() <= MAX_FOLDED_ELEMENTS for v in values)


def _output_labels(program: torch.export.ExportedProgram) -> list[str]:
    """Names of the outputs: `output` for one alone, else their place in what the model returns."""
    from torch.utils import _pytree as pytree

    spec = program.call_spec.out_spec
    if spec is None:
        return []
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths = [path for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    labels = [
        ".".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in p) for p in paths
    ]
    if len(labels) == 1 and labels[0] in ("", "0"):
        return ["output"]
    return [f"output_{label}" if label[:1].isdigit() else label or "output" for label in labels]


def _used(program: Program) -> Program:
    """Without the constants that nothing reads."""
    from edgec.ir import uses

    read = {ref[1:] for graph in program.graphs for ref in uses(graph) if ref[0] == "@"}
    kept = {name: c for name, c in program.constants.items() if name in read}
    return Program(program.graphs, kept, program.state)


def _unsupported(missing: Sequence[Missing]) -> UserError:
    """One report of all unsupported operators: counts, layers, source lines."""
    groups: dict[tuple[str, str], list[Loc]] = {}
    for m in missing:
        groups.setdefault((m.what, m.why), []).append(m.loc)
    lines = []
    for (what, why), locs in sorted(groups.items(), key=lambda g: (-len(g[1]), g[0])):
        places = list(dict.fromkeys(str(loc) for loc in locs))
        shown = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
        lines.append(f"  {len(locs)} x {what}{f' ({why})' if why else ''} at {shown}")
    return UserError(
        "EDGEC-E401",
        "rewrite these parts of the model with supported operators (edgec ops lists them). "
        f"{len(missing)} calls of {len({m.what for m in missing})} operators are not supported:\n"
        + "\n".join(lines),
    )


__all__ = ["MAX_ELEMENTS", "MAX_RANK", "canonical", "import_program", "is_known", "operator_name"]
