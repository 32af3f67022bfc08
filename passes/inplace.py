"""share_buffers: in-place results and in-place updates, as aliases. Plan -> Plan, before offsets are chosen.

A call's result takes over the buffer of an operand that dies there, where the kernel allows it. A state's
update is computed straight into the state where everything that reads the old content has run by then; its
copy disappears. A graph's input may be taken over too; a state never is, except by its own update.
"""

from __future__ import annotations

from dataclasses import replace

from edgec.passes.lifetimes import Touch, root_of, touches, with_lifetimes
from edgec.plan import Buffer, BufferArg, Call, Entry, Plan, Stream, Use


def share_buffers(plan: Plan, keep_inputs: bool = False) -> Plan:
    """The Plan with all aliases that are safe; the same object where there are none. `keep_inputs`: a graph's
    inputs are the user's own memory, which nothing overwrites."""
    buffers = {b.name: b for b in plan.buffers}
    entries = []
    for entry in plan.entries:
        sharing = _Sharing(entry, buffers, keep_inputs)
        kept = tuple(copy for copy in entry.updates if not sharing.update(*copy[:2]))
        entry = replace(entry, updates=kept) if kept != entry.updates else entry
        for time, item in enumerate(entry.items):
            if not isinstance(item, Stream):
                sharing.result(time, item)
        entries.append(entry)
        buffers |= {b.name: b for b in with_lifetimes(entry, buffers)}
    shared = tuple(buffers[b.name] for b in plan.buffers)
    if shared == plan.buffers and tuple(entries) == plan.entries:
        return plan
    return replace(plan, entries=tuple(entries), buffers=shared)


class _Sharing:
    """What an entry touches, while aliases are added to `buffers`."""

    def __init__(self, entry: Entry, buffers: dict[str, Buffer], keep_inputs: bool) -> None:
        self.entry, self.buffers, self.keep_inputs = entry, buffers, keep_inputs
        self.touched: dict[str, list[Touch]] = {}
        for touch in touches(entry):
            self.touched.setdefault(touch.buffer, []).append(touch)
        self.members: dict[str, list[str]] = {}
        for b in buffers.values():
            if b.entry in ("", entry.name):
                self.members.setdefault(root_of(b), []).append(b.name)

    def times(self, root: str) -> list[Touch]:
        """All accesses to the memory of `root`."""
        return [t for name in self.members[root] for t in self.touched.get(name, ())]

    def merge(self, root: str, into: str) -> None:
        """Make `root` and its aliases aliases of `into`."""
        for name in self.members.pop(root):
            self.buffers[name] = replace(self.buffers[name], inside=into)
            self.members[into].append(name)

    def result(self, time: int, call: Call) -> None:
        """Let the first output of the call at item `time` take over an operand, if it may."""
        out = call.outputs[0]
        self.renewed(time, call)
        result = self.buffers[out.buffer]
        writes = [t for t in self.touched[out.buffer] if t.write]
        if result.inside is not None or out.at or len(writes) > 1 or result.use in (Use.STATE, Use.INPUT):
            return
        for position in call.in_place:
            arg = call.inputs[position]
            if isinstance(arg, BufferArg) and self.may_take(time, call, arg, result):
                self.merge(result.name, root_of(self.buffers[arg.buffer]))
                return

    def renewed(self, time: int, call: Call) -> None:
        """Let outputs that renew an operand stand in its memory, where it dies here."""
        for index, position in call.renews:
            out, arg = call.outputs[index], call.inputs[position]
            result = self.buffers[out.buffer]
            if result.inside is not None or result.use is Use.STATE or not isinstance(arg, BufferArg):
                continue
            view, root = self.buffers[arg.buffer], self.buffers[root_of(self.buffers[arg.buffer])]
            whole = arg.at == view.at == 0 and root.bytes == result.bytes
            kept = root.use is Use.STATE or (self.keep_inputs and root.use is Use.INPUT)
            dies = not any(t.time > time for t in self.times(root.name))
            if whole and dies and not kept and self.reads_once(call, root.name):
                self.merge(result.name, root.name)

    def reads_once(self, call: Call, root: str) -> bool:
        """Whether one pointer alone of the call leads into `root`."""
        args = [a for a in (*call.inputs, *call.outputs) if isinstance(a, BufferArg)]
        return sum(root_of(self.buffers[a.buffer]) == root for a in args) == 1

    def may_take(self, time: int, call: Call, arg: BufferArg, result: Buffer) -> bool:
        """Whether the operand `arg` dies at item `time` and is all of its root, and `result` as long."""
        root = self.buffers[root_of(self.buffers[arg.buffer])]
        if arg.at or self.buffers[arg.buffer].at or root.bytes != result.bytes or root.use is Use.STATE:
            return False
        if any(t.time > time for t in self.times(root.name)) or (self.keep_inputs and root.use is Use.INPUT):
            return False
        return self.reads_only_through(call, root.name)

    def reads_only_through(self, call: Call, root: str) -> bool:
        """Whether each pointer of the call into `root` is an in-place operand at its start."""
        for position, arg in enumerate(call.inputs):
            if isinstance(arg, BufferArg) and root_of(self.buffers[arg.buffer]) == root:
                at_start = arg.at == 0 and self.buffers[arg.buffer].at == 0
                if position not in call.in_place or not at_start:
                    return False
        return not any(root_of(self.buffers[a.buffer]) == root for a in call.outputs)

    def may_renew(self, call: Call, source: str, state: str) -> bool:
        """Whether the call, which reads the state, may compute its next content `source` there."""
        if call.outputs[0] == BufferArg(source):
            return self.reads_only_through(call, state)
        pairs = [call.inputs[p] for o, p in call.renews if call.outputs[o] == BufferArg(source)]
        return pairs == [BufferArg(state)] and self.reads_once(call, state)

    def update(self, state: str, source: str) -> bool:
        """Compute `source` inside `state`, if nothing reads the old content after that."""
        if self.buffers[state].use is not Use.STATE or source[0] == "@":
            return False
        new, old = self.buffers[source], self.buffers[state]
        if new.inside is not None or new.use is Use.INPUT or new.bytes != old.bytes:
            return False
        born = min(t.time for t in self.times(source))
        end = len(self.entry.items)
        reads = [t.time for t in self.times(state) if not (t.time == end and t.write)]
        if born == end or any(t > born for t in reads):
            return False
        if born in reads:
            item = self.entry.items[born]
            if not isinstance(item, Call) or not self.may_renew(item, source, state):
                return False
        self.merge(source, state)
        return True
