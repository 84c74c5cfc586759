# SPDX-License-Identifier: Apache-2.0
"""Reads the public headers: what they declare, and what their comments say of it.

A header is a comment about the whole, then sections (`/* ---- name ---- */`) of groups. A group is a comment and what
follows it without a blank line: functions, types, macros. This is no C parser: it knows the forms that our headers use,
and refuses what it does not know.
"""

import dataclasses
import pathlib
import re

TOP = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = TOP / "include" / "tendril"

# Macros that are there for the headers' own sake.
OWN_MACROS = re.compile(
    r"TENDRIL_\w*H"
    r"|TDR_(API|MUST_USE|PRINTF|BEGIN_DECLS|END_DECLS|EACH_\d+|COUNT_?|PASTE_?|ITEMS|OF|OPTION_\w+|\w+_ENUM)"
)

_COMMENT = re.compile(r"/\*(.*?)\*/", re.DOTALL)
_DIRECTIVE = re.compile(r"#(?:[^\n\\]|\\\n|\\.)*")
_SECTION = re.compile(r"-{2,} *(.*?) *-{2,}")


@dataclasses.dataclass
class Row:
    """One X(...) of a list macro."""

    cells: list
    name: str | None  # the constant it yields, if any


@dataclasses.dataclass
class Item:
    """One declaration."""

    kind: str  # function, struct, enum, type, macro, list
    name: str
    code: str
    constants: list = dataclasses.field(default_factory=list)  # enumerators
    columns: list = dataclasses.field(default_factory=list)  # of a list
    rows: list = dataclasses.field(default_factory=list)  # of a list


@dataclasses.dataclass
class Group:
    """Declarations under one comment."""

    comment: str
    items: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Section:
    """A titled run of groups; the first of a header has no title."""

    title: str
    groups: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Header:
    """One public header."""

    path: pathlib.Path
    comment: str
    sections: list

    @property
    def name(self):
        """Its name without the suffix: "agent"."""
        return self.path.stem

    def groups(self):
        """All groups, in order."""
        return [group for section in self.sections for group in section.groups]

    def items(self):
        """All declarations, in order."""
        return [item for group in self.groups() for item in group.items]


def clean_comment(text):
    """The text of a comment without its frame, its lines kept."""
    lines = [re.sub(r"^\s*\* ?", "", line).rstrip() for line in text.strip("\n").split("\n")]
    lines[0] = lines[0].strip()
    return "\n".join(lines).strip("\n ").rstrip()


def _without_cplusplus(text):
    """Drops the C++ half of each #ifdef __cplusplus."""
    out = []
    dropping = []  # for each open #if: None (no business of ours), or whether its present half is dropped
    for line in text.split("\n"):
        directive = re.match(r"#\s*(ifdef|ifndef|if|else|endif)\b\s*(\w*)", line)
        if directive and directive[1] in ("if", "ifdef", "ifndef"):
            dropping.append((directive[1] == "ifdef") if directive[2] == "__cplusplus" else None)
        elif directive and directive[1] == "else" and dropping[-1] is not None:
            dropping[-1] = not dropping[-1]
        elif directive and directive[1] == "endif":
            dropping.pop()
        elif not any(dropping):
            out.append(line)
    return "\n".join(out)


def _end_of_declaration(text, start):
    """Where a declaration ends: past its semicolon, and past a comment on the same line."""
    depth = 0
    at = start
    while at < len(text):
        if text.startswith("/*", at):
            at = text.index("*/", at) + 2
            continue
        char = text[at]
        depth += (char in "({") - (char in ")}")
        at += 1
        if char == ";" and depth == 0:
            break
    trailing = re.compile(r"[ \t]*/\*[^\n]*?\*/").match(text, at)
    return trailing.end() if trailing else at


def _tokens(text):
    """Yields (kind, text, whether a blank line comes before)."""
    at = 0
    while at < len(text):
        space = re.compile(r"\s*").match(text, at)
        blank = space[0].count("\n") > 1
        at = space.end()
        if at == len(text):
            return
        if text.startswith("/*", at):
            match = _COMMENT.match(text, at)
            yield "comment", match[1], blank
            at = match.end()
        elif text[at] == "#":
            match = _DIRECTIVE.match(text, at)
            yield "directive", match[0], blank
            at = match.end()
        elif re.compile(r"TDR_(BEGIN|END)_DECLS\b").match(text, at):
            at = text.index("DECLS", at) + len("DECLS")
        else:
            end = _end_of_declaration(text, at)
            yield "declaration", text[at:end], blank
            at = end


def split_arguments(text):
    """The arguments of a macro call, at its outer commas."""
    arguments, depth, quoted, current = [], 0, False, ""
    previous = ""
    for char in text:
        if char == '"' and previous != "\\":
            quoted = not quoted
        if not quoted:
            depth += (char in "([{") - (char in ")]}")
            if char == "," and depth == 0:
                arguments.append(current.strip())
                current, previous = "", char
                continue
        current += char
        previous = char
    return arguments + [current.strip()]


def _list_rows(body):
    """The X(...) rows of a list macro."""
    rows = []
    for match in re.finditer(r'\bX\(((?:"(?:[^"\\]|\\.)*"|[^()"]|\([^()]*\))*)\)', body):
        cells = [cell[1:-1] if cell.startswith('"') else cell for cell in split_arguments(match[1])]
        rows.append(Row(cells, cells[0] if cells[0].startswith("TDR_") else None))
    return rows


def _macro(directive, comment):
    """The item of a #define, or None if it is none of the public's."""
    match = re.match(r"#\s*define\s+(\w+)(\([^)]*\))?[ \t]*(.*)", directive, re.DOTALL)
    if not match or OWN_MACROS.fullmatch(match[1]):
        return None
    name, parameters = match[1], match[2] or ""
    if name.endswith("_LIST"):
        columns = re.search(r"X\(([^)]*)\)", comment)
        if not columns:
            raise SystemExit(f"{name}: its comment does not name the columns: X(name, ...)")
        item = Item("list", name, f"#define {name}{parameters}", columns=split_arguments(columns[1]))
        item.rows = _list_rows(match[3].replace("\\\n", "\n"))
        item.constants = [row.name for row in item.rows if row.name]
        return item
    return Item("macro", name, re.sub(r"[ \t]*\\\n", " \\\\\n", directive))


def _declaration(text):
    """The item of a declaration, or None if it only tells of a name of somebody else's."""
    bare = _COMMENT.sub("", text)
    if bare.startswith("TDR_API"):
        name = re.search(r"(\w+)\s*\(", re.sub(r"\bTDR_\w+\s", "", bare))[1]
        return Item("function", name, text)
    match = re.match(r"(?:typedef\s+)?enum\s*(\w*)\s*\{(.*)\}", bare, re.DOTALL)
    if match:
        return Item("enum", match[1], text, constants=re.findall(r"^\s*(TDR_\w+)\s*(?:=|,|$)", match[2], re.MULTILINE))
    match = re.match(r"typedef\s+struct\s+\w+\s*\{.*\}\s*(\w+)\s*;", bare, re.DOTALL)
    if match:
        return Item("struct", match[1], text)
    match = re.match(r"typedef\s[^{]*?\(\s*\*\s*(\w+)\s*\)", bare) or re.match(r"typedef\s[^({]*?(\w+)\s*;", bare)
    if match:
        return Item("type", match[1], text)
    if re.match(r"struct\s+\w+\s*;", bare):
        return None
    raise SystemExit(f"public_api: what is this?\n{text}")


def parse(path):
    """Reads one header."""
    text = _without_cplusplus(path.read_text())
    sections = [Section("")]
    about = None
    group = None
    for kind, token, blank in _tokens(text):
        if kind == "comment":
            words = clean_comment(token)
            section = _SECTION.fullmatch(words)
            if words.startswith("SPDX-") or words.startswith("clang-format"):
                continue
            if about is None:
                about = words
            elif section:
                sections.append(Section(section[1]))
                group = None
            else:
                group = Group(words)
                sections[-1].groups.append(group)
            continue
        item = _macro(token, group.comment if group else "") if kind == "directive" else _declaration(token)
        if item is None:
            continue
        if group is None or blank:
            group = Group("")
            sections[-1].groups.append(group)
        group.items.append(item)
    for section in sections:
        section.groups = [group for group in section.groups if group.items]
    header = Header(path, about or "", [section for section in sections if section.groups])
    functions = sum(item.kind == "function" for item in header.items())
    if functions != len(re.findall(r"^TDR_API\b", text, re.MULTILINE)):
        raise SystemExit(f"{path}: not all functions were understood")
    return header


def headers():
    """All public headers of concepts, by name."""
    return [parse(path) for path in sorted(INCLUDE.glob("*.h"))]
