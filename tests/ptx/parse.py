"""PTX text to instructions: comments, registers and their scopes, labels, functions, kernels and their parameters."""

from __future__ import annotations

import re

from tests.ptx.decode_cluster import ClusterDecoder
from tests.ptx.instructions import BRANCH, RETURN, SIZE, Entry, Register

MOST_THREADS = 1024  # of a block, on every GPU


def clean(text: str) -> str:
    """The text without comments, and with its .loc lines as statements that name the source."""
    text = text.split("\n\t.section")[0]
    files = dict(re.findall(r'\.file\s+(\d+)\s+"(?:[^"]*/)?([^"/]+)"', text))

    def source(match: re.Match[str]) -> str:
        file, line, rest = match.groups()
        comment = re.search(r"//\s*(\S+:\d+:\d+.*)", rest or "")
        return f".loc {comment[1].strip() if comment else f'{files.get(file, file)}:{line}'};"

    text = re.sub(r"^\s*\.loc\s+(\d+)\s+(\d+)([^\n]*)$", source, text, flags=re.MULTILINE)
    text = re.sub(r"^\s*\.file[^\n]*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.sub(r"//[^\n]*", "", text)


def block(text: str, at: int) -> str:
    """What stands between the brace at ``at`` and the one that closes it."""
    depth = 0
    for brace in re.finditer(r"[{}]", text[at:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[at + 1 : at + brace.start()]
    raise ValueError("text: got a brace that is not closed")


class Body(ClusterDecoder):
    """One function's body. A call is replaced by the function that it calls."""

    def __init__(self, module: Module, parameters: dict[str, int], prefix: str = "") -> None:
        super().__init__(parameters | module.shared)
        self.module, self.prefix = module, prefix
        self.scopes: list[tuple[str, dict[str, str]]] = [(prefix, {})]  # of names: prefix, types
        self.labels: dict[str, int] = {}
        self.calls = self.inner_scopes = 0

    def parse(self, text: str) -> None:
        """Decode all statements."""
        label, at = re.compile(r"([$\w]+):"), 0
        while at < len(text):
            if text[at].isspace() or text[at] == ";":
                at += 1
            elif text[at] == "{":
                self.inner_scopes += 1
                self.scopes.append((f"{self.prefix}{self.inner_scopes}@", {}))
                at += 1
            elif text[at] == "}":
                self.scopes.pop()
                at += 1
            elif match := label.match(text, at):
                self.labels[self.scope() + match[1]] = len(self.code)
                at = match.end()
            else:
                end = text.index(";", at)
                self.statement(" ".join(text[at:end].split()))
                at = end + 1

    def scope(self) -> str:
        """What the names of labels begin with in the innermost braces; nothing outside of all."""
        return self.scopes[-1][0] if len(self.scopes) > 1 else ""

    def decode_bra(self, p: list[str], o: list[str]) -> None:
        """A label of the same braces stands before the branch to it, as in loops that wait."""
        own = self.scope() + o[0]
        super().decode_bra(p, [own if own in self.labels else o[0]])

    def type_of(self, name: str) -> tuple[str, str] | None:
        """The prefix of a register's scope, and its type."""
        stem = re.sub(r"\d+$", "", name) + "<"
        for prefix, types in reversed(self.scopes):
            for known in (name, stem):
                if known in types:
                    return prefix, types[known]
        return None

    def statement(self, text: str) -> None:
        """A declaration or an instruction."""
        types = self.scopes[-1][1]
        if text.startswith(".loc"):
            self.where = text[5:]
        elif match := re.match(r"\.reg\s+\.(\w+)\s+(.*)", text):
            types.update({re.sub(r"<\d+>$", "<", name.strip()): match[1] for name in match[2].split(",")})
        elif match := re.match(r"\.param\s+\.b(32|64)\s+(\w+)$", text):
            types[match[2]] = f"b{match[1]}"
            self.local.add(match[2])
        elif not text.startswith((".pragma", ".branchtargets", ".shared")):
            if match := re.match(r"call\S*\s+(.*)", text):
                self.text, self.guard, self.negated = text, None, 0
                self.call(match[1])
            else:
                self.instruction(text)

    def call(self, text: str) -> None:
        """Put the code of the function that is called in the place of the call."""
        match = re.fullmatch(r"\((\w+)\),\s*(\w+),\s*\((.*?)\)", text.strip())
        if match is None:
            raise ValueError(f"PTX: got a call {text!r}, need one result")
        self.calls += 1
        names, result, body = self.module.functions[match[2]]
        inner = Body(self.module, {}, f"{self.prefix}call{self.calls}@")
        inner.scopes[0][1].update(dict.fromkeys([*names, result], "b64"))
        inner.where, inner.local = self.where, {*names, result}
        for name, given in zip(names, match[3].split(","), strict=True):
            self.add("mov.b64", d=(Register(inner.prefix + name, 8),), s=(self.register(given.strip()),))
        inner.parse(body)
        end = f"{inner.prefix}end"
        self.labels |= {inner.prefix + label: len(self.code) + place for label, place in inner.labels.items()}
        for i in inner.code:
            if i.kind == RETURN:
                i = i._replace(kind=BRANCH, target=end)
            elif i.kind == BRANCH and f"{inner.prefix}{i.target}" in self.labels:
                i = i._replace(target=f"{inner.prefix}{i.target}")
            self.code.append(i)
        self.labels[end] = len(self.code)
        self.add("mov.b64", d=(self.register(match[1]),), s=(Register(inner.prefix + result, 8),))


class Module:
    """What a PTX file defines: kernels, functions, and where its shared arrays lie."""

    def __init__(self, text: str) -> None:
        self.text = text = clean(text)
        self.shared: dict[str, int] = {}
        self.static_shared = 0  # bytes
        arrays = re.findall(r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d*)\]", text)
        for align, name, size in arrays:
            if size:
                self.shared[name] = -(-self.static_shared // int(align)) * int(align)
                self.static_shared = self.shared[name] + int(size)
        for _, name, size in arrays:
            if not size:  # the launch says how large it is; it lies behind the others
                self.shared[name] = -(-self.static_shared // 16) * 16
        self.functions: dict[str, tuple[list[str], str, str]] = {}  # parameters, result, body
        for match in re.finditer(r"\.func\s*\(\.param\s+\.b64\s+(\w+)\)\s*(\w+)\s*\(([^)]*)\)\s*\{", text):
            names = re.findall(r"(\w+)\s*(?:,|$)", match[3].strip())
            self.functions[match[2]] = (names, match[1], block(text, match.end() - 1))
        self.entries: list[str] = re.findall(r"\.entry\s+([\w$]+)\s*\(", text)

    def entry(self, name: str) -> Entry:
        """The kernel of that name."""
        match = re.search(rf"\.entry\s+{re.escape(name)}\s*\(([^)]*)\)([^{{]*)\{{", self.text)
        if match is None:
            raise ValueError(f"name: got {name!r}, need one of {', '.join(self.entries)}")
        offsets, places, at = {}, [], 0
        for part in filter(None, (x.strip() for x in match[1].split(","))):
            parameter, size, align = _parameter(part)
            at = -(-at // align) * align
            offsets[parameter] = at
            places.append((at, size))
            at += size
        body = Body(self, offsets)
        body.parse(block(self.text, match.end() - 1))
        code = [i._replace(target=body.labels[str(i.target)]) if i.kind == BRANCH else i for i in body.code]
        threads = {kind: int(number) for kind, number in re.findall(r"\.(reqntid|maxntid)\s+(\d+)", match[2])}
        exactly = threads.get("reqntid", 0)
        return Entry(name, code, places, at, exactly, exactly or threads.get("maxntid", MOST_THREADS))


def _parameter(text: str) -> tuple[str, int, int]:
    """Name, bytes and alignment of a kernel's parameter."""
    align = re.search(r"^\.param\s+\.align\s+(\d+)", text)
    if array := re.search(r"\.b8\s+([\w$]+)\[(\d+)\]", text):
        return array[1], int(array[2]), int(align[1]) if align else 1
    type_ = re.match(r"\.param\s+\.(\w+)", text)
    if type_ is None:
        raise ValueError(f"PTX: got a parameter {text!r}")
    return text.split()[-1], SIZE[type_[1]], SIZE[type_[1]]
