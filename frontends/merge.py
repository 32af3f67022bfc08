"""Programs of one graph each become one Program: what has one name is one constant or one state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgec.errors import InternalError
from edgec.ir import Constant, Graph, Program, State
from edgec.match import rename_ends


def merge(programs: Sequence[Program]) -> Program:
    """All graphs over the union of constants and state.

    Constants of equal content are one, under the first name; a name that is taken by other content gets a number.
    States of one name are one and must have one type.
    """
    constants: dict[str, Constant] = {}
    known: dict[tuple[str, object], str] = {}
    state: dict[str, State] = {}
    graphs: list[Graph] = []
    for program in programs:
        renamed: dict[str, str] = {}
        for name, constant in program.constants.items():
            key = (constant.digest, constant.type)
            if key not in known:
                known[key] = _free(name, constants)
                constants[known[key]] = constant
            renamed["@" + name] = "@" + known[key]
        for name, held in program.state.items():
            if state.setdefault(name, held).type != held.type:
                raise InternalError(
                    f"the state {name} is {held.type} in one entry, {state[name].type} in another"
                )
        graphs += [_renamed(graph, renamed) for graph in program.graphs]
    return Program(tuple(graphs), constants, state)


def _free(name: str, taken: Mapping[str, Constant]) -> str:
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _renamed(graph: Graph, renamed: Mapping[str, str]) -> Graph:
    nodes = tuple(replace(n, inputs=tuple(renamed.get(r, r) for r in n.inputs)) for n in graph.nodes)
    return rename_ends(replace(graph, nodes=nodes), renamed)
